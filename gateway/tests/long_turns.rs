//! However much has come at once, a turn takes in as much as it may, and the next turns take in the rest.

mod support;

use std::io::Write;
use std::net::TcpStream;

use engine::limits::{ENDS_TURN_MAX, Rules};
use engine::session::costs::{PING, TURN_WORK_MAX};

use support::frame;
use support::shore::Shore;

/// No budgets: the bounds of a turn must hold without them.
fn shore(connections: usize) -> Shore {
    let none =
        Rules { work_per_session: None, work_per_user: None, memberships_per_user_max: None, ..Rules::default() };
    Shore::new(none, connections)
}

fn sessions(shore: &mut Shore, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| shore.session()).collect()
}

#[test]
fn a_turn_reads_as_much_work_as_it_may_and_the_next_turns_read_the_rest() {
    const SESSIONS: usize = 40;
    /// Pings that fit into one read of a socket.
    const PINGS: usize = 400;
    let mut shore = shore(1000);
    let mut sessions = sessions(&mut shore, SESSIONS);
    let pings = frame(0x81, br#"{"cid":"p","ping":{}}"#).repeat(PINGS);
    sessions.iter_mut().for_each(|session| session.write_all(&pings).expect("the kernel takes them"));
    let all = PING.times(SESSIONS * PINGS);
    assert!(all >= TURN_WORK_MAX.times(3), "it is more than three turns may be");
    let of_one_read = PING.times(PINGS);
    let (mut turns, mut done) = (0, engine::budget::Work::default());
    // What has been written to a loopback socket may take a moment to arrive, so a turn may find less.
    shore.turn_until("all pings are read", |shore| {
        let worked = shore.shard.worked();
        assert!(worked <= TURN_WORK_MAX + of_one_read, "{worked:?} in a turn");
        (turns, done) = (turns + 1, done + worked);
        done >= all
    });
    assert!(turns > 3, "{turns} turns");
}

#[test]
fn members_of_many_rooms_who_hang_up_together_end_in_several_turns() {
    const SESSIONS: usize = 24;
    const ROOMS: usize = 400;
    let mut shore = shore(1000);
    let mut sessions = sessions(&mut shore, SESSIONS);
    let joins: Vec<u8> = (0..ROOMS)
        .flat_map(|room| {
            let join = format!(r#"{{"cid":"j","channel_join":{{"target":"room {room}","type":1}}}}"#);
            frame(0x81, join.as_bytes())
        })
        .collect();
    let memberships = |shore: &Shore| shore.shard.report().levels.subscriptions as usize;
    for (number, session) in sessions.iter_mut().enumerate() {
        // A session that has not read its answers is not read, so each reads them before the next one joins.
        let (mut reading, mut writing) =
            (session.try_clone().expect("a descriptor"), session.try_clone().expect("one"));
        let (joins, wanted) = (joins.clone(), (number + 1) * ROOMS);
        let writer = std::thread::spawn(move || writing.write_all(&joins).expect("the server reads"));
        let reader =
            std::thread::spawn(
                move || while std::io::Read::read(&mut reading, &mut [0; 4096]).is_ok_and(|read| read > 0) {},
            );
        shore.turn_until("the session has joined", |shore| memberships(shore) == wanted);
        writer.join().expect("all is written");
        drop(reader);
    }
    drop_all(sessions);
    let (mut before, mut turns) = (memberships(&shore), 0);
    assert!(before > 2 * ENDS_TURN_MAX);
    shore.turn_until("all memberships have ended", |shore| {
        let now = memberships(shore);
        // The last connection of a turn may exceed the bound by its own memberships.
        assert!(before - now <= ENDS_TURN_MAX + ROOMS, "{} memberships ended in a turn", before - now);
        turns += usize::from(now < before);
        before = now;
        now == 0
    });
    assert!(turns > 2, "{turns} turns");
}

/// Ends the connections, although threads still have a descriptor of each.
fn drop_all(sessions: Vec<TcpStream>) {
    for session in sessions {
        let _ = session.shutdown(std::net::Shutdown::Both);
    }
}
