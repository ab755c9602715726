//! The bus over real servers: Debian's and a newer one. Servers and nodes are killed, stopped and started again.

mod node;
mod server;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cluster::bus::{Bus, StartFailure};
use cluster::link::Reason;
use engine::id::Life;
use node::{Node, options, until, until_open};
use server::{Certificate, Server, programs};

/// Runs a test with each server.
fn with_each_server(test: impl Fn(&Path)) {
    programs().iter().for_each(|program| {
        println!("with {}", program.display());
        test(program);
    });
}

#[test]
fn parcels_cross_in_order() {
    with_each_server(|program| {
        let server = Server::start(program, "");
        let options = options(vec![server.url()]);
        let mut nodes = [1, 2, 3].map(|life| Node::start(&options, life, &[1, 2, 3]));
        let [one, two, three] = &mut nodes;
        let mut nodes = [one, two, three];
        until_open(&mut nodes);
        for round in 0..2_000 {
            for at in 0..3 {
                let to = 1 + (at as u16 + 1 + round % 2) % 3;
                while !nodes[at].send(to, usize::from(round) % 700) {
                    nodes.iter_mut().for_each(|node| node.poll());
                }
            }
        }
        let arrived = |nodes: &[&mut Node]| {
            let pairs = nodes.iter().flat_map(|one| nodes.iter().map(move |other| (one, other)));
            pairs.filter(|(one, other)| one.life != other.life).all(|(one, other)| one.has_reached(other))
        };
        until(&mut nodes, "all arrive", arrived);
        // What one node sends in one turn leaves in few frames.
        let links = nodes[0].bus.figures().links;
        assert!(links.resets == 0 && links.frames_sent < 2_000, "{links:?}");
        until(&mut nodes, "beats are heard", |nodes| {
            let heard: Vec<_> = nodes[0].bus.beats().drain().map(|beat| beat.life).collect();
            !heard.contains(&Life(1)) && (heard.contains(&Life(2)) || heard.contains(&Life(3)))
        });
    });
}

#[test]
fn a_parcel_longer_than_a_packet_crosses() {
    with_each_server(|program| {
        let server = Server::start(program, "");
        let options = options(vec![server.url()]);
        let (mut one, mut two) = (Node::start(&options, 1, &[1, 2]), Node::start(&options, 2, &[1, 2]));
        until_open(&mut [&mut one, &mut two]);
        assert!([3 << 20, 10, 4 << 20].iter().all(|bytes| one.send(2, *bytes)));
        until(&mut [&mut one, &mut two], "all arrive", |nodes| nodes[0].has_reached(nodes[1]));
    });
}

#[test]
fn nothing_is_lost_when_the_server_is_killed_under_load() {
    with_each_server(|program| {
        let mut server = Server::start(program, "");
        let options = options(vec![server.url()]);
        let (mut one, mut two) = (Node::start(&options, 1, &[1, 2]), Node::start(&options, 2, &[1, 2]));
        until_open(&mut [&mut one, &mut two]);
        for round in 0..6_000 {
            match round {
                1_000 | 3_000 => server.kill(),
                1_700 | 3_100 => server.run(),
                _ => {}
            }
            for _ in 0..3 {
                // What has no room waits at its shard, as for a full ring.
                let _ = (one.send(2, 200), two.send(1, 20));
            }
            one.poll();
            two.poll();
            std::thread::sleep(Duration::from_micros(500));
        }
        until(&mut [&mut one, &mut two], "all arrive", |nodes| {
            nodes[0].has_reached(nodes[1]) && nodes[1].has_reached(nodes[0])
        });
        for node in [&one, &two] {
            let figures = node.bus.figures();
            assert!(node.resets.is_empty() && figures.links.resets == 0, "{:?} {figures:?}", node.resets);
            assert!(figures.connections >= 3 && figures.links.probes_sent > 2, "{figures:?}");
            assert!(node.sent.values().all(|sent| *sent > 6_000), "{:?}", node.sent);
        }
    });
}

#[test]
fn a_server_that_has_stopped_is_given_up_and_found_again() {
    with_each_server(|program| {
        let server = Server::start(program, "");
        let options = options(vec![server.url()]);
        let (mut one, mut two) = (Node::start(&options, 1, &[1, 2]), Node::start(&options, 2, &[1, 2]));
        until_open(&mut [&mut one, &mut two]);
        server.signal("STOP");
        // So much does not fit into what the system and the client keep for a connection.
        for _ in 0..100 {
            while !one.send(2, 100_000) {
                one.poll();
            }
        }
        until(&mut [&mut one, &mut two], "it is given up", |nodes| {
            nodes.iter().all(|node| !node.bus.figures().connected)
        });
        server.signal("CONT");
        until(&mut [&mut one, &mut two], "all arrive", |nodes| nodes[0].has_reached(nodes[1]));
        assert!([&one, &two].iter().all(|node| node.resets.is_empty() && node.bus.figures().links.resets == 0));
    });
}

/// The environment variable that makes this program a node: the server's address.
const NODE: &str = "STENTOR_TEST_NODE";

/// A node in a process of its own, when it is started by another test: it says what it hears of life 1.
#[test]
fn node_process() {
    let Ok(server) = std::env::var(NODE) else { return };
    let mut node = Node::start(&options(vec![server]), 3, &[1, 2, 3]);
    let ended = std::thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let mut told = (0, None, 0);
    while !ended.is_finished() {
        node.poll();
        let open = node.open.get(&Life(1)).copied();
        let received = open.map_or(0, |link| node.received.get(&(Life(1), link)).copied().unwrap_or_default());
        let resets = node.resets.iter().filter(|(life, ..)| *life == Life(1)).count();
        if told != (resets, open, received) {
            told = (resets, open, received);
            println!("node: {resets} {} {received}", u8::from(open.is_some()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

struct NodeProcess {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl NodeProcess {
    fn start(server: &Server) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["node_process", "--exact", "--nocapture"]).env(NODE, server.url());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this program starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    /// Sends the process a signal by its id.
    fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits until the node has said this: resets, whether the link is open, and parcels received over it.
    fn until(&mut self, holds: impl Fn(u32, bool, u32) -> bool) {
        for line in self.lines.by_ref().map_while(Result::ok) {
            let Some((_, numbers)) = line.split_once("node: ") else { continue };
            let numbers: Vec<u32> = numbers.split(' ').filter_map(|number| number.parse().ok()).collect();
            if let [resets, open, received] = numbers[..]
                && holds(resets, open == 1, received)
            {
                return;
            }
        }
        panic!("the node has ended");
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_stopped_peer_does_not_slow_the_others() {
    with_each_server(|program| {
        let server = Server::start(program, "");
        let options = options(vec![server.url()]);
        let (mut one, mut two) = (Node::start(&options, 1, &[1, 2, 3]), Node::start(&options, 2, &[1, 2, 3]));
        let mut third = NodeProcess::start(&server);
        until(&mut [&mut one, &mut two], "links open", |nodes| nodes.iter().all(|node| node.open.len() == 2));
        assert!(one.send(3, 10));
        third.until(|resets, open, received| (resets, open, received) == (0, true, 1));
        third.signal("STOP");
        // More than the store holds goes to the stopped node, and meanwhile a parcel after each to the other one.
        let before = one.bus.figures().links.frames_sent;
        let mut rounds = 0;
        while one.resets.is_empty() {
            let went = one.send(3, 20_000);
            assert!(!went || one.send(2, 100));
            until(&mut [&mut one, &mut two], "the other one hears", |nodes| nodes[0].has_reached(nodes[1]));
            rounds += u32::from(went);
            assert!(rounds < 2_000, "the store has an end");
        }
        assert!(matches!(one.resets[..], [(Life(3), _, Reason::StoreFull)]), "{:?}", one.resets);
        assert!(rounds > 700, "{rounds} parcels of 20 kB were held or sent");
        // Nothing else was reset, and the stopped node was sent no more than its window.
        let figures = one.bus.figures();
        assert!(two.resets.is_empty() && figures.links.resets == 1, "{figures:?}");
        assert!(figures.links.frames_resent == 0 && figures.links.frames_sent > before, "{figures:?}");
        third.signal("CONT");
        third.until(|resets, open, _| resets == 1 && open);
        until(&mut [&mut one, &mut two], "the link opens", |nodes| nodes[0].open.contains_key(&Life(3)));
        assert!(one.send(3, 10));
        third.until(|resets, open, received| (resets, open, received) == (1, true, 1));
    });
}

#[test]
fn a_node_that_starts_again_is_another_life() {
    with_each_server(|program| {
        let server = Server::start(program, "");
        let options = options(vec![server.url()]);
        let (mut one, mut two) = (Node::start(&options, 1, &[1, 2]), Node::start(&options, 2, &[1, 2]));
        until_open(&mut [&mut one, &mut two]);
        assert!(one.send(2, 10));
        two.bus.stop();
        let mut again = Node::start(&options, 4, &[1, 4]);
        one.set_peers(&[1, 4]);
        until(&mut [&mut one, &mut again], "the link opens", |nodes| nodes[0].open.contains_key(&Life(4)));
        assert!(matches!(one.resets[..], [(Life(2), _, Reason::Gone)]), "{:?}", one.resets);
        assert!(one.send(4, 10) && !one.send(2, 10));
        until(&mut [&mut one, &mut again], "all arrive", |nodes| {
            nodes[1].open.contains_key(&Life(1)) && nodes[0].has_reached(nodes[1])
        });
        assert!(again.resets.is_empty());
    });
}

#[test]
fn a_server_must_let_the_node_in_and_take_its_packets() {
    with_each_server(|program| {
        let server = Server::start(program, "authorization { user: node, password: secret }");
        let mut right = options(vec![server.url()]);
        right.login = Some(("node".to_owned(), "secret".to_owned()));
        let mut wrong = right.clone();
        wrong.login = Some(("node".to_owned(), "guess".to_owned()));
        let small = Server::start(program, "max_payload: 524288");
        let mut nodes = [right, wrong, options(vec![small.url()])].map(|options| Node::start(&options, 1, &[1]));
        let [right, wrong, small] = &mut nodes;
        let mut nodes = [right, wrong, small];
        until(&mut nodes, "two are refused", |nodes| {
            let figures: Vec<_> = nodes.iter().map(|node| node.bus.figures()).collect();
            figures[0].connected && figures[1].troubles > 1 && figures[2].troubles > 1
        });
        assert!(nodes[1..].iter().all(|node| node.bus.figures().connections == 0));
    });
}

#[test]
fn packets_cross_under_tls_that_the_operator_vouches_for() {
    with_each_server(|program| {
        let (right, other) = (Certificate::make("right"), Certificate::make("other"));
        let (server, plain) = (Server::start(program, &right.lines()), Server::start(program, ""));
        let node = |server: &Server, certificate: &Certificate, life| {
            let mut options = options(vec![server.url()]);
            options.ca = Some(certificate.certificate.clone());
            Node::start(&options, life, &[1, 2])
        };
        let (mut one, mut two) = (node(&server, &right, 1), node(&server, &right, 2));
        let (mut misled, mut exposed) = (node(&server, &other, 1), node(&plain, &right, 1));
        until_open(&mut [&mut one, &mut two]);
        assert!(one.send(2, 10));
        until(&mut [&mut one, &mut two], "all arrive", |nodes| nodes[0].has_reached(nodes[1]));
        until(&mut [&mut misled, &mut exposed], "both are refused", |nodes| {
            nodes.iter().all(|node| node.bus.figures().troubles > 1)
        });
        assert!([misled, exposed].iter().all(|node| node.bus.figures().connections == 0));
    });
}

#[test]
fn one_server_of_several_is_enough() {
    with_each_server(|program| {
        let (mut early, mut late) = (Server::start(program, ""), Server::prepare(program, ""));
        let options = options(vec![late.url(), early.url()]);
        let (mut one, mut two) = (Node::start(&options, 1, &[1, 2]), Node::start(&options, 2, &[1, 2]));
        until_open(&mut [&mut one, &mut two]);
        assert!(one.send(2, 10));
        early.kill();
        late.run();
        assert!(one.send(2, 10));
        until(&mut [&mut one, &mut two], "all arrive", |nodes| nodes[0].has_reached(nodes[1]));
        assert!(one.resets.is_empty() && one.bus.figures().links.resets == 0);
    });
}

#[test]
fn what_is_no_address_is_refused_at_the_start() {
    let check = |change: fn(&mut cluster::bus::BusOptions), expected: &str| {
        let mut options = options(vec!["nats://127.0.0.1:4222".to_owned()]);
        change(&mut options);
        let failure = Bus::start(&options, Life(1), 1).map(|_| ()).unwrap_err();
        assert!(failure.to_string().contains(expected), "{failure}");
        assert!(!matches!(failure, StartFailure::Thread(_)));
    };
    check(|options| options.cluster = "a.b".to_owned(), "cluster's name");
    check(|options| options.cluster = "x".repeat(65), "cluster's name");
    check(|options| options.servers.clear(), "no server");
    check(|options| options.servers.push("nats://:x".to_owned()), "nats://:x");
}
