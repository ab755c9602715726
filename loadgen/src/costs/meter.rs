//! The costs of a run, read between its stages: those of the server's process and of the kernel, and the counters of
//! the server itself.

use std::io;
use std::net::SocketAddr;

use hyper::Uri;
use thiserror::Error;

use crate::base::notes::note;
use crate::costs::kernel::KernelReading;
use crate::costs::listening;
use crate::costs::metrics::{Counters, Metrics, MetricsError};
use crate::costs::server::{CpuTime, ServerProbe};

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

/// Everything that can be read at one time.
#[derive(Clone, Copy, Default, Debug)]
pub struct Reading {
    /// Of the server's process, if it is known.
    pub process: Option<ProcessReading>,
    /// From the server's metrics, if they are known.
    pub counters: Option<Counters>,
}

#[derive(Clone, Copy, Default, Debug)]
pub struct ProcessReading {
    pub cpu: CpuTime,
    pub resident_bytes: u64,
    /// Of the machine that runs the process, which is this machine.
    pub kernel: KernelReading,
}

/// The readings of a run.
#[derive(Clone, Copy, Default, Debug)]
pub struct Costs {
    /// When all users are signed in.
    pub signed_in: Reading,
    /// When all users have joined and presence events have stopped.
    pub joined: Reading,
    /// When the measured time begins, and when it ends.
    pub begin: Reading,
    pub end: Reading,
    /// When everything is sent and delivered.
    pub settled: Reading,
}

impl Meter {
    /// Finds the server's process by its port, if no pid was given and the process is on this machine.
    pub fn find(pid: Option<u32>, server: SocketAddr, metrics: Option<Uri>) -> Result<Self, CostsError> {
        let pid = pid.or_else(|| listening::process_at(server));
        let process = pid.map(ServerProbe::new).transpose()?;
        Ok(Self { process, metrics: metrics.map(Metrics::new) })
    }

    pub fn process(&self) -> Option<ServerProbe> {
        self.process
    }

    /// The first reading of a run. Fails if something cannot be read.
    pub async fn first(&self) -> Result<Reading, CostsError> {
        let counters = match &self.metrics {
            Some(metrics) => Some(metrics.read().await?),
            None => None,
        };
        Ok(Reading { process: self.process.map(ProcessReading::take).transpose()?, counters })
    }

    /// A later reading. A server that dies in the middle of a run has no more costs, and the run must still be judged.
    /// So what cannot be read is left out, which is said.
    pub async fn read(&self) -> Reading {
        let left_out = |error: &CostsError| note(&format!("left out of the costs: {error}"));
        let counters = match &self.metrics {
            Some(metrics) => metrics.read().await.map_err(CostsError::from).inspect_err(left_out).ok(),
            None => None,
        };
        let process = self.process.map(|process| ProcessReading::take(process).map_err(CostsError::from));
        Reading { process: process.and_then(|process| process.inspect_err(left_out).ok()), counters }
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
    /// The process at two times, if it was watched.
    pub fn process(&self, one: fn(&Self) -> &Reading, other: fn(&Self) -> &Reading) -> Option<[ProcessReading; 2]> {
        Some([one(self).process?, other(self).process?])
    }

    /// What the server counted during the measured time.
    pub fn counted(&self) -> Option<Counters> {
        let (before, after) = (self.begin.counters?, self.end.counters?);
        Some(Counters {
            deliveries: after.deliveries - before.deliveries,
            delivery_bytes: after.delivery_bytes - before.delivery_bytes,
            pass_writes: after.pass_writes - before.pass_writes,
            private_writes: after.private_writes - before.private_writes,
        })
    }

    /// How many messages one write carried to a member during the measured time: counted by the server, or estimated
    /// from the TCP segments that carried them. A write makes at least one segment.
    pub fn batch_factor(&self, delivered: u64) -> Option<f64> {
        let (deliveries, writes) = match self.counted() {
            Some(counted) => (counted.deliveries, counted.pass_writes),
            None => (delivered as f64, self.segments()? as f64),
        };
        (writes > 0.0).then(|| (deliveries / writes).max(1.0))
    }

    /// TCP segments with data that this machine sent during the measured time.
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
        // The generator's own sends are segments too, so an estimate may be lower than is possible.
        check(reading(0, None), reading(5_000, None), Some(1.0));
        check(reading(0, None), reading(0, None), None);
        check(Reading::default(), Reading::default(), None);
    }
}
