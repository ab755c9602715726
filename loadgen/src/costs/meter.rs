//! What a run costs, read at the moments that tell its stages apart: of the server's process, of the kernel, and what the
//! server counts itself.

use std::io;

use thiserror::Error;

use crate::costs::kernel::KernelReading;
use crate::costs::listening;
use crate::costs::metrics::{Counters, Metrics, MetricsError};
use crate::costs::server::{CpuTime, ServerProbe};
use crate::options::RunOptions;

#[derive(Debug, Error)]
pub enum CostsError {
    #[error("the server's process cannot be watched: {0}")]
    Process(#[from] io::Error),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// Where costs are read.
pub struct Meter {
    process: Option<ServerProbe>,
    metrics: Option<Metrics>,
}

/// Everything that can be read at one moment.
#[derive(Clone, Copy, Default, Debug)]
pub struct Reading {
    /// Of the server's process, when it is known.
    pub process: Option<ProcessReading>,
    /// Of the server's metrics, when they are.
    pub counters: Option<Counters>,
}

#[derive(Clone, Copy, Default, Debug)]
pub struct ProcessReading {
    pub cpu: CpuTime,
    pub resident_bytes: u64,
    /// Of the machine that the process is on, which is ours as well.
    pub kernel: KernelReading,
}

/// The readings of a run.
#[derive(Clone, Copy, Default, Debug)]
pub struct Costs {
    /// Everybody is signed in.
    pub signed_in: Reading,
    /// Everybody has joined, and it is quiet again.
    pub joined: Reading,
    /// Measuring begins, and ends.
    pub begin: Reading,
    pub end: Reading,
    /// All is said and delivered.
    pub settled: Reading,
}

impl Meter {
    /// Finds the server's process by its port where it was not named and is on this machine.
    pub fn find(options: &RunOptions) -> Result<Self, CostsError> {
        let pid = options.pid.or_else(|| listening::process_at(options.plan.target.server));
        let process = pid.map(ServerProbe::new).transpose()?;
        Ok(Self { process, metrics: options.metrics.clone().map(Metrics::new) })
    }

    pub fn process(&self) -> Option<ServerProbe> {
        self.process
    }

    pub async fn read(&self) -> Result<Reading, CostsError> {
        let counters = match &self.metrics {
            Some(metrics) => Some(metrics.read().await?),
            None => None,
        };
        Ok(Reading { process: self.process.map(ProcessReading::take).transpose()?, counters })
    }
}

impl ProcessReading {
    fn take(process: ServerProbe) -> io::Result<Self> {
        Ok(Self {
            cpu: process.cpu()?,
            resident_bytes: process.resident_bytes()?,
            kernel: KernelReading::take(process.pid())?,
        })
    }
}

impl Costs {
    /// The process at two moments, when it was watched.
    pub fn process(&self, one: fn(&Self) -> &Reading, other: fn(&Self) -> &Reading) -> Option<[ProcessReading; 2]> {
        Some([one(self).process?, other(self).process?])
    }

    /// What the server counted while measuring.
    pub fn counted(&self) -> Option<Counters> {
        let (before, after) = (self.begin.counters?, self.end.counters?);
        Some(Counters {
            deliveries: after.deliveries - before.deliveries,
            delivery_bytes: after.delivery_bytes - before.delivery_bytes,
            pass_writes: after.pass_writes - before.pass_writes,
            private_writes: after.private_writes - before.private_writes,
        })
    }

    /// How many messages one write brought to a member, while measuring: counted by the server, or estimated from the TCP
    /// segments that carried them, of which a write makes at least one.
    pub fn batch_factor(&self, delivered: u64) -> Option<f64> {
        let (deliveries, writes) = match self.counted() {
            Some(counted) => (counted.deliveries, counted.pass_writes),
            None => (delivered as f64, self.segments()? as f64),
        };
        (writes > 0.0).then(|| (deliveries / writes).max(1.0))
    }

    /// TCP segments with data that this machine sent while measuring.
    pub fn segments(&self) -> Option<u64> {
        let [begin, end] = self.process(|costs| &costs.begin, |costs| &costs.end)?;
        Some(end.kernel.data_segments - begin.kernel.data_segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batch_factor_is_the_servers_own_where_it_counts() {
        let reading = |data_segments, deliveries: Option<f64>| Reading {
            process: Some(ProcessReading {
                kernel: KernelReading { data_segments, ..Default::default() },
                ..Default::default()
            }),
            counters: deliveries.map(|deliveries| Counters {
                deliveries,
                pass_writes: deliveries / 4.0,
                ..Default::default()
            }),
        };
        let check = |begin, end, expected| {
            let costs = Costs { begin, end, ..Costs::default() };
            assert_eq!(costs.batch_factor(1_000), expected, "{costs:?}");
        };
        check(reading(50, Some(0.0)), reading(150, Some(800.0)), Some(4.0));
        check(reading(50, None), reading(150, None), Some(10.0));
        // Our own sends are segments as well, so that an estimate may come out below what is possible.
        check(reading(0, None), reading(5_000, None), Some(1.0));
        check(reading(0, None), reading(0, None), None);
        check(Reading::default(), Reading::default(), None);
    }
}
