//! The step, and the loop with the same traffic, with Criterion's statistics and history: `cargo bench --bench step`.

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rayon::ThreadPoolBuilder;
use support::{Param, Streams};

fn flat<P: Param>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(P::NAME);
    for threads in [1, 2] {
        for elements in [1usize << 14, 1 << 20, 1 << 26] {
            let mut streams = Streams::<P>::new(elements);
            let bytes = streams.bytes_per_element() * elements;
            let mut optimizer = streams.optimizer(elements, threads);
            group.throughput(Throughput::Bytes(bytes as u64));
            group.sample_size(if elements > 1 << 20 { 10 } else { 50 });
            let id = BenchmarkId::new(format!("step, {threads} threads"), elements);
            group.bench_function(id, |bencher| bencher.iter(|| optimizer.step()));
            let pool = ThreadPoolBuilder::new().num_threads(threads as usize).build().unwrap();
            let pool = (threads > 1).then_some(&pool);
            let id = BenchmarkId::new(format!("traffic, {threads} threads"), elements);
            group.bench_function(id, |bencher| bencher.iter(|| streams.traffic(pool)));
        }
    }
}

criterion_group!(benches, flat::<f32>, flat::<u16>);
criterion_main!(benches);
