//! The cost of the log that a channel's members read. Appending copies each byte once, so its limit is a memcpy of the
//! same bytes. What a member has to get is a range, so the limit of a walk is a plain loop over cursors and slices.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::fanout::log::{FrameLog, Mark, Position, Run};
use engine::id::MessageId;
use engine::wire::websocket;
use uuid::Uuid;

/// A typical delivery, and a long one.
const PAYLOADS_BYTES: [usize; 2] = [400, 4096];
/// The number of frames that a pass under load finds in a log.
const FRAMES: usize = 256;
const MEMBERS: usize = 5000;

/// One frame, with the mark of a message.
fn run(payload_bytes: usize) -> Run {
    let mut run = Run::default();
    websocket::text_frame(&mut run.bytes, |out| out.resize(out.len() + payload_bytes, b'x'));
    run.marks.push(Mark { at: Position(0), id: MessageId(Uuid::nil()) });
    run
}

/// Appends many frames, then reads all of them. The log grows from nothing and returns its memory.
fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame_log/append");
    for payload_bytes in PAYLOADS_BYTES {
        let run = run(payload_bytes);
        let frame = &run.bytes;
        group.throughput(Throughput::Bytes((frame.len() * FRAMES) as u64));
        let mut log = FrameLog::default();
        group.bench_function(BenchmarkId::new("append and trim", payload_bytes), |bencher| {
            bencher.iter(|| {
                for _ in 0..FRAMES {
                    log.append(black_box(&run));
                }
                log.trim(log.end());
            });
        });
        let mut bytes = vec![0; frame.len() * FRAMES];
        group.bench_function(BenchmarkId::new("memcpy", payload_bytes), |bencher| {
            bencher.iter(|| {
                for place in black_box(&mut bytes).chunks_exact_mut(frame.len()) {
                    place.copy_from_slice(black_box(frame));
                }
            });
        });
    }
    group.finish();
}

/// Every member's range from its cursor to the end, as a pass requests it.
fn walk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame_log/cursor walk");
    group.throughput(Throughput::Elements(MEMBERS as u64));
    let run = run(PAYLOADS_BYTES[0]);
    let frame = &run.bytes;
    let mut log = FrameLog::default();
    (0..FRAMES).for_each(|_| log.append(&run));
    let starts: Vec<u64> = (0..MEMBERS).map(|member| (member % FRAMES * frame.len()) as u64).collect();
    let cursors: Vec<Position> = starts.iter().map(|&start| Position(start)).collect();
    group.bench_function("ranges", |bencher| {
        bencher.iter(|| {
            let end = log.end();
            cursors.iter().map(|cursor| black_box(log.range(*black_box(cursor), end)).len()).sum::<usize>()
        });
    });
    let bytes = log.range(Position(0), log.end()).to_vec();
    group.bench_function("plain loop", |bencher| {
        bencher
            .iter(|| starts.iter().map(|cursor| black_box(&bytes[*black_box(cursor) as usize..]).len()).sum::<usize>());
    });
    group.finish();
}

criterion_group!(benches, append, walk);
criterion_main!(benches);
