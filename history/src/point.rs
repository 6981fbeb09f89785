//! A point: the values of all series at one time, and how several points become one.

use proto::history::v1::Series;

/// Room for the values of a point: more than there are series, so that files outlast some new ones.
pub const PLACES: usize = 21;

/// The values of all series of a server, or of several together, in one step.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Of how many samples it is made; 0: of none.
    pub samples: u32,
    values: [f32; PLACES],
}

/// How values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fold {
    /// The average, by the number of samples.
    Mean,
    /// The average, by the number of requests.
    ByRequests,
    Greatest,
    Least,
    /// Only of several servers.
    Sum,
}

/// Of points that follow each other: peaks of what hurts are kept.
fn over_time(series: Series) -> Fold {
    match series {
        Series::P50Ms => Fold::ByRequests,
        Series::P99Ms | Series::ResidentBytes | Series::OpenFiles => Fold::Greatest,
        Series::DiskFreeBytes => Fold::Least,
        _ => Fold::Mean,
    }
}

/// Of servers at one time. The hub's servers all tell of the same sessions and the same log.
fn over_servers(series: Series) -> Fold {
    match series {
        Series::P50Ms => Fold::ByRequests,
        Series::P99Ms | Series::Load | Series::AppliedPerS | Series::Sessions | Series::SessionBytes => {
            Fold::Greatest
        }
        Series::DiskFreeBytes => Fold::Least,
        _ => Fold::Sum,
    }
}

/// Every series with its place.
fn all() -> impl Iterator<Item = (usize, Series)> {
    (0..PLACES).filter_map(|place| Some((place, Series::try_from(i32::try_from(place).ok()? + 1).ok()?)))
}

fn place(series: Series) -> Option<usize> {
    usize::try_from(series as i32).ok()?.checked_sub(1).filter(|it| *it < PLACES)
}

impl Point {
    /// Of a sample of which nothing is known yet.
    pub fn sample() -> Self {
        Self { samples: 1, values: [f32::NAN; PLACES] }
    }

    /// Of no sample.
    pub(crate) const NONE: Self = Self { samples: 0, values: [f32::NAN; PLACES] };

    pub(crate) fn read(samples: u32, values: [f32; PLACES]) -> Self {
        Self { samples, values }
    }

    pub(crate) fn values(&self) -> &[f32; PLACES] {
        &self.values
    }

    /// The value of a series; `None`: it is not known.
    pub fn get(&self, series: Series) -> Option<f32> {
        place(series).map(|place| self.values[place]).filter(|it| it.is_finite())
    }

    /// Sets the value of a series. What is not finite is not known.
    pub fn set(&mut self, series: Series, value: f64) {
        if let Some(place) = place(series) {
            self.values[place] = value as f32;
        }
    }

    /// One point of those that follow each other.
    pub(crate) fn over_time<'a>(points: impl Iterator<Item = &'a Self> + Clone) -> Self {
        Self::fold(points, over_time)
    }

    /// One point of all servers.
    pub(crate) fn over_servers<'a>(points: impl Iterator<Item = &'a Self> + Clone) -> Self {
        Self::fold(points, over_servers)
    }

    fn fold<'a>(points: impl Iterator<Item = &'a Self> + Clone, rule: fn(Series) -> Fold) -> Self {
        let mut folded = Self::NONE;
        for (place, series) in all() {
            let known = points.clone().filter_map(|it| Some((it, f64::from(it.get(series)?))));
            let weighted = |weight: fn(&Self) -> f64| {
                let (sum, weights) = known.clone().fold((0.0, 0.0), |(sum, weights), (point, value)| {
                    let weight = weight(point);
                    (sum + value * weight, weights + weight)
                });
                (weights > 0.0).then(|| sum / weights)
            };
            let values = known.clone().map(|(_, value)| value);
            let value = match rule(series) {
                Fold::Mean => weighted(|it| f64::from(it.samples)),
                Fold::ByRequests => weighted(Self::requests),
                Fold::Greatest => values.reduce(f64::max),
                Fold::Least => values.reduce(f64::min),
                Fold::Sum => values.reduce(|sum, value| sum + value),
            };
            folded.values[place] = value.map_or(f32::NAN, |it| it as f32);
        }
        folded.samples = points.fold(0, |sum, it| sum.saturating_add(it.samples));
        folded
    }

    /// How many requests it stands for, by rate and samples.
    fn requests(&self) -> f64 {
        f64::from(self.get(Series::RequestsPerS).unwrap_or_default()) * f64::from(self.samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(values: &[(Series, f64)]) -> Point {
        let mut point = Point::sample();
        values.iter().for_each(|(series, value)| point.set(*series, *value));
        point
    }

    #[test]
    fn every_series_has_a_place_and_there_is_room_for_more() {
        assert_eq!(all().count(), 17);
        assert!(all().count() < PLACES && place(Series::Unspecified).is_none());
    }

    #[test]
    fn over_time_rates_are_averaged_and_peaks_stay() {
        let busy = point(&[
            (Series::RequestsPerS, 90.0),
            (Series::P50Ms, 1.0),
            (Series::P99Ms, 50.0),
            (Series::DiskFreeBytes, 7.0),
        ]);
        let quiet = point(&[
            (Series::RequestsPerS, 10.0),
            (Series::P50Ms, 11.0),
            (Series::P99Ms, 5.0),
            (Series::DiskFreeBytes, 9.0),
        ]);
        let folded = Point::over_time([busy, quiet, Point::NONE].iter());
        let values =
            [Series::RequestsPerS, Series::P50Ms, Series::P99Ms, Series::DiskFreeBytes, Series::Load]
                .map(|it| folded.get(it));
        assert_eq!(values, [Some(50.0), Some(2.0), Some(50.0), Some(7.0), None]);
        assert_eq!(folded.samples, 2);
        // By samples: a point of many counts as many.
        let mut many = quiet;
        many.samples = 3;
        assert_eq!(Point::over_time([busy, many].iter()).get(Series::RequestsPerS), Some(30.0));
        assert_eq!(Point::over_time([].iter()).samples, 0);
    }

    #[test]
    fn of_servers_traffic_is_added_and_the_hubs_word_is_taken_once() {
        let web = |requests, p50| point(&[(Series::RequestsPerS, requests), (Series::P50Ms, p50)]);
        let hub = |sessions| point(&[(Series::Sessions, sessions), (Series::CpuCores, 0.5)]);
        let total = Point::over_servers([web(30.0, 1.0), web(10.0, 5.0), hub(7.0), hub(8.0)].iter());
        let values =
            [Series::RequestsPerS, Series::P50Ms, Series::Sessions, Series::CpuCores].map(|it| total.get(it));
        assert_eq!(values, [Some(40.0), Some(2.0), Some(8.0), Some(1.0)]);
        assert_eq!(total.samples, 4);
    }

    #[test]
    fn what_is_no_number_is_not_known() {
        let mut point = Point::sample();
        for value in [f64::INFINITY, f64::NAN, f64::MAX] {
            point.set(Series::Load, value);
            assert_eq!(point.get(Series::Load), None, "{value}");
        }
    }
}
