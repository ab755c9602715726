//! Finds the highest rate that is still carried, in a bounded number of runs. It multiplies the rate by a factor until
//! one rate is carried and one is not. Then it tries the geometric mean of the two until they are close. It knows
//! nothing of servers.

/// Two rates this close count as equal, because runs vary by more than that.
const CLOSE_ENOUGH: f64 = 1.05;

const FACTOR_MAX: f64 = 2.0;

pub struct Search {
    start: f64,
    factor: f64,
    runs_left: u32,
    carried: Option<f64>,
    failed: Option<f64>,
}

impl Search {
    pub fn from(start: f64) -> Search {
        Search { start, factor: FACTOR_MAX, runs_left: 14, carried: None, failed: None }
    }

    /// A search that begins where an earlier one ended. Its steps grow, because the earlier one may have ended at a
    /// wrong rate.
    pub fn near(start: f64) -> Search {
        Search { start, factor: 1.1, runs_left: 4, carried: None, failed: None }
    }

    /// The rate to try next. `None` when the search is over.
    fn next_rate(&self) -> Option<f64> {
        if self.runs_left == 0 {
            return None;
        }
        if let (Some(carried), Some(failed)) = (self.carried, self.failed) {
            assert!(carried < failed, "{carried} is carried and {failed} is not: the maximum lies between them");
        }
        match (self.carried, self.failed) {
            (None, None) => Some(self.start),
            (Some(carried), None) => Some(carried * self.factor),
            (None, Some(failed)) => Some(failed / self.factor),
            (Some(carried), Some(failed)) if failed / carried < CLOSE_ENOUGH => None,
            (Some(carried), Some(failed)) => Some((carried * failed).sqrt()),
        }
    }

    /// Offers one rate after another, and returns the carried run of the highest worth. `offer` returns `None` for a
    /// rate that is not carried.
    pub fn most<R, E>(
        mut self,
        mut offer: impl FnMut(f64) -> Result<Option<R>, E>,
        worth: impl Fn(&R) -> f64,
    ) -> Result<Option<R>, E> {
        let mut best: Option<R> = None;
        while let Some(rate) = self.next_rate() {
            assert!(rate > 0.0 && rate.is_finite(), "{rate} cannot be offered");
            let run = offer(rate)?;
            match run {
                Some(_) => self.carried = Some(rate),
                None => self.failed = Some(rate),
            }
            self.runs_left -= 1;
            self.factor = (self.factor * self.factor).min(FACTOR_MAX);
            best = match (best, run) {
                (Some(best), Some(run)) if worth(&best) < worth(&run) => Some(run),
                (best, run) => best.or(run),
            };
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search on a server that carries `capacity`. Returns the best rate and the number of runs.
    fn find(search: Search, capacity: f64) -> (f64, u32) {
        let mut runs = 0;
        let offer = |rate| {
            runs += 1;
            Ok::<_, ()>((rate <= capacity).then_some(rate))
        };
        let best = search.most(offer, |rate| *rate).expect("no offer fails").unwrap_or_default();
        (best, runs)
    }

    #[test]
    fn any_capacity_is_found_within_the_bound() {
        for start in [1e5, 1e6] {
            for capacity in [3e4, 81e3, 1e5, 150e3, 1e6, 2.3e6, 9.3e6, 15e6] {
                let (best, runs) = find(Search::from(start), capacity);
                assert!(best > capacity / CLOSE_ENOUGH && best <= capacity, "{capacity}: found {best}");
                assert!(runs <= 14, "{runs} runs");
            }
        }
    }

    #[test]
    fn a_search_nearby_takes_few_runs_and_moves_both_ways() {
        for capacity in [0.6, 0.8, 0.95, 1.0, 1.05, 1.2, 1.9] {
            let (best, runs) = find(Search::near(1.0), capacity);
            assert!(runs <= 4 && best > capacity / 1.25 && best <= capacity, "{capacity}: {best} in {runs}");
        }
    }

    #[test]
    fn a_server_that_carries_nothing_ends_the_search() {
        assert_eq!(find(Search::from(1e5), 0.0), (0.0, 14));
    }
}
