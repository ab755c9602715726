//! Full rings between shards. To a running shard they delay parcels, but lose none and keep the order. Parcels to a
//! shard that has ended are dropped at once. One full ring does not delay the others.

use std::time::{Duration, Instant};

use engine::id::{ChannelId, ChannelKind, ShardId};
use engine::limits::RING_PARCELS;
use engine::parcel::{Backlog, Parcel};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, timer::sleep};
use runtime::bell::Bell;
use runtime::rings::{RingEnds, Rings, rings};

/// More parcels than fit into a ring and its receiver's inbox.
const MANY: usize = 3 * RING_PARCELS;

/// No test takes this long: a test that hangs fails with a message.
const DEADLINE: Duration = Duration::from_secs(20);

fn parcel(number: usize) -> Parcel {
    let channel = ChannelId::room(&number.to_string()).expect("a room's name");
    Parcel::Backlog { from: ShardId::alone(0), channel, state: Backlog::Low }
}

fn number_of(parcel: &Parcel) -> usize {
    let Parcel::Backlog { channel, .. } = parcel else { panic!("not ours: {parcel:?}") };
    let ChannelKind::Room(name) = channel.kind() else { panic!("not ours: {channel}") };
    name.parse().expect("a number")
}

/// Runs one shard's end of the rings on an executor of its own.
fn shard<F: Future<Output = ()> + 'static>(
    ends: RingEnds,
    turning: impl FnOnce(Rings) -> F + Send + 'static,
) -> ExecutorJoinHandle<()> {
    LocalExecutorBuilder::new(Placement::Unbound)
        .spawn(move || async move { turning(Rings::connect(ends, &Bell::default()).await).await })
        .expect("an executor")
}

/// Lets the executor run its other tasks and I/O until `done`.
async fn turn_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain until {what}");
        sleep(Duration::from_micros(1)).await;
    }
}

fn fill(rings: &mut Rings, to: ShardId) {
    (0..MANY).for_each(|number| rings.send(to, parcel(number)));
    rings.flush();
}

#[test]
fn a_ring_to_a_shard_that_has_ended_lets_go_at_once() {
    let mut ends = rings(2).into_iter();
    let (end, ended) = flume::bounded::<()>(1);
    let (full, told_full) = flume::bounded::<()>(1);
    let (joined, gone) = flume::bounded::<()>(1);
    let sender = shard(ends.next().expect("two"), move |mut rings| async move {
        fill(&mut rings, ShardId::alone(1));
        assert!(rings.is_full());
        full.send_async(()).await.expect("the test listens");
        gone.recv_async().await.expect("the test tells");
        rings.flush();
        assert!(!rings.is_full(), "parcels wait for a shard that has ended");
        fill(&mut rings, ShardId::alone(1));
        assert!(!rings.is_full(), "parcels wait for a shard that has ended");
        assert!(rings.take().is_none());
    });
    let receiver = shard(ends.next().expect("two"), move |rings| async move {
        ended.recv_async().await.expect("the test tells");
        drop(rings);
    });
    told_full.recv_timeout(DEADLINE).expect("the ring fills");
    end.send(()).expect("the receiver listens");
    receiver.join().expect("the receiver ends");
    joined.send(()).expect("the sender listens");
    sender.join().expect("the sender ends");
}

#[test]
fn a_full_ring_delays_but_loses_nothing_and_keeps_the_order() {
    let mut ends = rings(2).into_iter();
    let (full, told_full) = flume::bounded::<()>(1);
    let sender = shard(ends.next().expect("two"), move |mut rings| async move {
        fill(&mut rings, ShardId::alone(1));
        assert!(rings.is_full());
        full.send_async(()).await.expect("the receiver listens");
        turn_until("all parcels have left", || {
            rings.flush();
            !rings.is_full()
        })
        .await;
    });
    let receiver = shard(ends.next().expect("two"), move |rings| async move {
        told_full.recv_async().await.expect("the sender tells");
        let mut arrived = Vec::new();
        turn_until("all parcels have come", || {
            arrived.extend(std::iter::from_fn(|| rings.take()).map(|parcel| number_of(&parcel)));
            arrived.len() >= MANY
        })
        .await;
        assert!(arrived.into_iter().eq(0..MANY), "in order, and each once");
    });
    receiver.join().expect("the receiver ends");
    sender.join().expect("the sender ends");
}

#[test]
fn rings_that_fill_side_by_side_all_go_on() {
    const SENDERS: usize = 3;
    let mut ends = rings(1 + SENDERS as u16).into_iter();
    let receiver_end = ends.next().expect("the first");
    let (full, told_full) = flume::bounded::<()>(SENDERS);
    let senders: Vec<_> = ends
        .map(|end| {
            let full = full.clone();
            shard(end, move |mut rings| async move {
                fill(&mut rings, ShardId::alone(0));
                // The ring is still full after the receiver had time to move parcels, so the receiver's inbox is full
                // too.
                for _ in 0..100 {
                    sleep(Duration::from_micros(1)).await;
                    rings.flush();
                }
                assert!(rings.is_full());
                full.send_async(()).await.expect("the receiver listens");
                turn_until("all parcels have left", || {
                    rings.flush();
                    !rings.is_full()
                })
                .await;
            })
        })
        .collect();
    let receiver = shard(receiver_end, move |rings| async move {
        for _ in 0..SENDERS {
            told_full.recv_async().await.expect("the senders tell");
        }
        let mut arrived = 0;
        turn_until("all parcels of all rings have come", || {
            arrived += std::iter::from_fn(|| rings.take()).count();
            arrived >= SENDERS * MANY
        })
        .await;
        assert_eq!(arrived, SENDERS * MANY);
    });
    receiver.join().expect("the receiver ends");
    senders.into_iter().for_each(|sender| sender.join().expect("a sender ends"));
}
