//! The cost of a frame. Unmasking has to touch every byte, as copying does, so its limit is a memcpy of the same bytes.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::wire::websocket::{self, Assembly, Decoded, MESSAGE_BYTES_MAX};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// A small envelope, a typical one, the longest, and as many bytes as one read returns.
const PAYLOADS_BYTES: [usize; 4] = [32, 200, 4096, 65_536];

fn unmask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("websocket/unmask");
    for length in PAYLOADS_BYTES {
        let source = vec![b'x'; length];
        let mut payload = source.clone();
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_with_input(BenchmarkId::new("unmask", length), &length, |bencher, _| {
            bencher.iter(|| websocket::unmask(black_box(&mut payload), black_box(MASK)));
        });
        group.bench_with_input(BenchmarkId::new("memcpy", length), &length, |bencher, _| {
            bencher.iter(|| black_box(&mut payload).copy_from_slice(black_box(&source)));
        });
    }
    group.finish();
}

/// A masked text frame, as a client sends it.
fn client_frame(length: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    websocket::text_frame(&mut frame, |out| out.resize(out.len() + length, b'x'));
    let header_bytes = frame.len() - length;
    websocket::unmask(&mut frame[header_bytes..], MASK);
    frame[1] |= 0x80;
    frame.splice(header_bytes..header_bytes, MASK);
    frame
}

/// Decodes in place as many frames of one size as one read returns.
fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("websocket/decode");
    for length in [32, 200, 4096] {
        let frame = client_frame(length);
        let frames = 65_536 / frame.len();
        let read = frame.repeat(frames);
        group.throughput(Throughput::Elements(frames as u64));
        group.bench_function(BenchmarkId::new("frames of", length), |bencher| {
            bencher.iter_batched_ref(|| read.clone(), |read| decode_all(read), BatchSize::LargeInput);
        });
    }
    group.finish();
}

fn decode_all(mut rest: &mut [u8]) {
    let mut assembly = Assembly::default();
    while !rest.is_empty() {
        match websocket::decode(rest, &mut assembly, MESSAGE_BYTES_MAX) {
            Ok(Decoded::Frame { consumed, incoming }) => {
                black_box(incoming);
                rest = &mut rest[consumed..];
            }
            other => panic!("only whole frames were put in, not {other:?}"),
        }
    }
}

criterion_group!(benches, unmask, decode);
criterion_main!(benches);
