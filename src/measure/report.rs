//! From what each variant did for each search to the rows of `persona.evaluate`.
//!
//! Every figure has a bootstrap interval over whole shoppers; where two variants are compared, the interval is of the
//! difference on the same searches. What is fitted to judge scores as chances (a curve, a threshold) comes from the other
//! half of the shoppers.

use super::counterfactual::{self, Log, Placed};
use super::interval::{self, Figure, Sums};
use super::metric::{self, Calibration, Confusion, Platt};
use crate::control::Control;
use crate::error::Result;
use std::collections::{BTreeMap, HashMap};

/// A figure of a variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The variant, or two with a minus between them.
    pub variant: String,
    /// What is measured.
    pub metric: String,
    /// Over which searches.
    pub slice: String,
    /// The figure.
    pub figure: Figure,
    /// Searches behind it.
    pub searches: usize,
}

/// A search that was replayed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Replayed {
    /// Whose it is, by number: what one shopper did is drawn together.
    pub group: usize,
    /// The slices it belongs to, beside all.
    pub slices: Vec<&'static str>,
    /// What was wanted: item and gain.
    pub wanted: Vec<(i64, f64)>,
    /// The list that was logged, where its propensities are known.
    pub logged: Vec<Placed>,
    /// The query, for what is told by query.
    pub query: String,
    /// What each variant did, in the order of the variants.
    pub outcomes: Vec<Outcome>,
}

/// What one variant did for one search.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// The first items.
    pub top: Vec<i64>,
    /// NDCG, reciprocal rank, recall, hit and AUC, in the order of [`MEANS`]; `None` where it has no meaning.
    pub means: [Option<f64>; 5],
    /// Scores with whether the item was taken.
    pub scored: Vec<(f64, bool)>,
    /// Gain over the best gain, both weighted by how seldom the place of what was taken is looked at.
    pub unbiased: Option<Sums>,
}

/// Measures that are means over searches.
pub const MEANS: [&str; 5] = ["ndcg", "mrr", "recall", "hit", "auc"];

/// What the shop knows of an item, for exposure: its brand, and which fifth of the prices it is in (from 1).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kind {
    /// The brand.
    pub brand: Option<String>,
    /// The price band, from 1.
    pub band: Option<u8>,
}

/// How a report is made.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Places that count.
    pub k: usize,
    /// Of the draws.
    pub seed: u64,
    /// Propensities below count as that.
    pub clip: f64,
}

/// The rows of one head: the first variant is held against each of the others.
pub fn rows(
    variants: &[String],
    searches: &[Replayed],
    settings: &Settings,
    control: &dyn Control,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut slices = vec!["all"];
    searches.iter().flat_map(|s| &s.slices).for_each(|slice| {
        if !slices.contains(slice) {
            slices.push(slice);
        }
    });
    slices[1..].sort_unstable();
    for slice in slices {
        let of_slice: Vec<&Replayed> =
            searches.iter().filter(|s| slice == "all" || s.slices.contains(&slice)).collect();
        for (number, variant) in variants.iter().enumerate() {
            control.check()?;
            let mut add = |metric: &str, measured: Option<(Figure, usize)>| {
                if let Some((figure, searches)) = measured {
                    let (variant, metric, slice) = (variant.clone(), named(metric, settings.k), slice.to_owned());
                    rows.push(Row { variant, metric, slice, figure, searches });
                }
            };
            for (place, metric) in MEANS.into_iter().enumerate() {
                add(metric, mean(&of_slice, settings.seed, |s| s.outcomes[number].means[place]));
            }
            classified(&of_slice, searches, number, settings, &mut add);
        }
        for (number, variant) in variants.iter().enumerate().skip(1) {
            for (place, metric) in MEANS.into_iter().enumerate() {
                control.check()?;
                let gap = |s: &Replayed| Some(s.outcomes[0].means[place]? - s.outcomes[number].means[place]?);
                if let Some((figure, searches)) = mean(&of_slice, settings.seed, gap) {
                    let variant = format!("{} - {variant}", variants[0]);
                    rows.push(Row {
                        variant,
                        metric: named(metric, settings.k),
                        slice: slice.to_owned(),
                        figure,
                        searches,
                    });
                }
            }
        }
    }
    Ok(rows)
}

fn named(metric: &str, k: usize) -> String {
    match metric {
        "ndcg" | "recall" | "hit" => format!("{metric}@{k}"),
        _ => metric.to_owned(),
    }
}

fn mean(searches: &[&Replayed], seed: u64, of: impl Fn(&Replayed) -> Option<f64>) -> Option<(Figure, usize)> {
    let (values, groups): (Vec<f64>, Vec<usize>) = searches.iter().filter_map(|s| Some((of(s)?, s.group))).unzip();
    interval::mean(&values, &groups, seed).map(|figure| (figure, values.len()))
}

/// Calibration and the classification report of a variant's scores.
fn classified(
    of_slice: &[&Replayed],
    all: &[Replayed],
    number: usize,
    settings: &Settings,
    add: &mut impl FnMut(&str, Option<(Figure, usize)>),
) {
    let fitted = [0, 1].map(|half: usize| {
        let others = all.iter().filter(|s| s.group % 2 != half);
        let scored: Vec<(f64, bool)> = others.flat_map(|s| s.outcomes[number].scored.iter().copied()).collect();
        let told = scored.iter().any(|s| s.1) && scored.iter().any(|s| !s.1);
        told.then(|| (Platt::fit(&scored), metric::best_threshold(&scored)))
    });
    let mut groups: BTreeMap<usize, (Calibration, Confusion)> = BTreeMap::new();
    let mut searches = 0;
    for search in of_slice {
        let (Some((curve, threshold)), scored) = (&fitted[search.group % 2], &search.outcomes[number].scored) else {
            continue;
        };
        searches += usize::from(!scored.is_empty());
        let counts = groups.entry(search.group).or_default();
        for (score, taken) in scored {
            counts.0.add(curve.chance(*score), *taken);
            counts.1.add(score >= threshold, *taken);
        }
    }
    if searches == 0 {
        return;
    }
    let (calibrations, confusions): (Vec<Calibration>, Vec<Confusion>) = groups.into_values().unzip();
    let seed = settings.seed;
    let error = interval::statistic(&calibrations, seed, |drawn| Calibration::error(drawn));
    add("ece", error.map(|figure| (figure, searches)));
    let mut of = |name: &str, measure: fn(&Confusion) -> f64| {
        let figure = interval::statistic(&confusions, seed, |drawn| Some(measure(&Confusion::sum(drawn))));
        add(name, figure.map(|figure| (figure, searches)));
    };
    of("precision", Confusion::precision);
    of("sensitivity", Confusion::recall);
    of("f1", Confusion::f1);
    of("accuracy", Confusion::accuracy);
    let support: f64 = confusions.iter().map(|c| c.hits + c.misses).sum();
    add("support", Some((Figure { value: support, low: support, high: support }, searches)));
}

/// What the variants would have got, told from what was logged: by the places' examination (`unbiased ndcg`), and where
/// propensities are logged by those.
pub fn counterfactual(
    variants: &[String],
    searches: &[Replayed],
    settings: &Settings,
    control: &dyn Control,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (number, variant) in variants.iter().enumerate() {
        control.check()?;
        let mut add = |variant: &str, metric: String, figure: Option<Figure>, searches: usize| {
            rows.extend(figure.map(|figure| Row {
                variant: variant.to_owned(),
                metric,
                slice: "all".into(),
                figure,
                searches,
            }));
        };
        let mut sums: BTreeMap<usize, Sums> = BTreeMap::new();
        let mut told = 0;
        for search in searches {
            if let Some(unbiased) = search.outcomes[number].unbiased {
                told += 1;
                let group = sums.entry(search.group).or_default();
                group.over += unbiased.over;
                group.under += unbiased.under;
            }
        }
        let sums: Vec<Sums> = sums.into_values().collect();
        add(variant, format!("unbiased ndcg@{}", settings.k), interval::ratio(&sums, settings.seed), told);
        let logs: Vec<Log> = searches
            .iter()
            .filter(|search| !search.logged.is_empty())
            .map(|search| Log {
                query: search.query.clone(),
                group: search.group,
                shown: search.logged.clone(),
                ranked: search.outcomes[number].top.iter().copied().take(counterfactual::PLACES).collect(),
            })
            .collect();
        if logs.is_empty() {
            continue;
        }
        let found = counterfactual::estimate(&logs, settings.clip, settings.seed);
        if number == 0 {
            add("as logged", "taken".into(), found.logged, logs.len());
        }
        add(variant, "taken, ips".into(), found.ips, logs.len());
        add(variant, "taken, snips".into(), found.snips, logs.len());
        add(variant, "taken, doubly robust".into(), found.doubly_robust, logs.len());
    }
    Ok(rows)
}

/// Brands that are shown one by one; the others together.
const BRANDS: usize = 10;

/// Of the first variant's places and of what was wanted, the share of each brand and price band: places weigh by their
/// discount, what was wanted by its gain.
pub fn exposure(variant: &str, searches: &[Replayed], kinds: &HashMap<i64, Kind>, settings: &Settings) -> Vec<Row> {
    let searches: Vec<&Replayed> = searches.iter().filter(|s| !s.wanted.is_empty()).collect();
    let mut by_brand: BTreeMap<&str, f64> = BTreeMap::new();
    for (item, gain) in searches.iter().flat_map(|s| &s.wanted) {
        if let Some(brand) = kinds.get(item).and_then(|kind| kind.brand.as_deref()) {
            *by_brand.entry(brand).or_default() += gain;
        }
    }
    let mut brands: Vec<(&str, f64)> = by_brand.into_iter().collect();
    brands.sort_by(|a, b| b.1.total_cmp(&a.1));
    let brands: Vec<&str> = brands.into_iter().take(BRANDS).map(|(brand, _)| brand).collect();
    let slices = |item: &i64| -> [Option<String>; 2] {
        let kind = kinds.get(item);
        let brand = kind.and_then(|kind| kind.brand.as_deref()).map(|brand| match brands.contains(&brand) {
            true => format!("brand {brand}"),
            false => "other brands".to_owned(),
        });
        [brand, kind.and_then(|kind| kind.band).map(|band| format!("price band {band}"))]
    };
    let mut groups: BTreeMap<usize, [HashMap<String, f64>; 2]> = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    for search in &searches {
        let [shown, wanted] = groups.entry(search.group).or_default();
        let places = search.outcomes[0].top.iter().take(settings.k).enumerate();
        let places = places.map(|(place, item)| (item, metric::discount(place)));
        for (sums, item, weight) in places
            .map(|(item, weight)| (0, item, weight))
            .chain(search.wanted.iter().map(|(item, gain)| (1, item, *gain)))
        {
            for name in slices(item).into_iter().flatten() {
                let part = if name.starts_with("price") { "price" } else { "brand" };
                let sums = if sums == 0 { &mut *shown } else { &mut *wanted };
                *sums.entry(part.to_owned()).or_default() += weight;
                *sums.entry(name.clone()).or_default() += weight;
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    names.sort_unstable();
    let mut rows = Vec::new();
    for name in names {
        let part = if name.starts_with("price") { "price" } else { "brand" };
        for (place, metric) in ["exposure", "merit"].into_iter().enumerate() {
            let of = |sums: &HashMap<String, f64>, name: &str| sums.get(name).copied().unwrap_or_default();
            let sums: Vec<Sums> = groups
                .values()
                .map(|group| Sums { over: of(&group[place], &name), under: of(&group[place], part) })
                .collect();
            if let Some(figure) = interval::ratio(&sums, settings.seed) {
                let (variant, metric, slice) = (variant.to_owned(), metric.to_owned(), name.clone());
                rows.push(Row { variant, metric, slice, figure, searches: searches.len() });
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::Free;

    const SETTINGS: Settings = Settings { k: 10, seed: 1, clip: 0.01 };

    /// Two variants over 40 searches of 20 shoppers: the first puts what was wanted first, the second second; scores part
    /// the labels in the first and say nothing in the second.
    fn replayed() -> Vec<Replayed> {
        let one = |n: usize| {
            let outcome = |ndcg: f64, scored: Vec<(f64, bool)>, top: Vec<i64>| Outcome {
                top,
                means: [Some(ndcg), Some(ndcg), Some(1.0), Some(1.0), metric::auc(&scored)],
                scored,
                unbiased: None,
            };
            Replayed {
                group: n / 2,
                slices: if n < 10 { vec!["new shoppers"] } else { vec![] },
                wanted: vec![(1, 1.0)],
                outcomes: vec![
                    outcome(1.0, vec![(5.0, true), (1.0, false), (0.0, false)], vec![1, 2]),
                    outcome(0.5, vec![(1.0, true), (1.0, false), (1.0, false)], vec![2, 1]),
                ],
                ..Replayed::default()
            }
        };
        (0..40).map(one).collect()
    }

    fn find<'a>(rows: &'a [Row], variant: &str, metric: &str, slice: &str) -> &'a Row {
        rows.iter().find(|r| r.variant == variant && r.metric == metric && r.slice == slice).unwrap()
    }

    #[test]
    fn variants_slices_and_differences_are_rows() {
        let rows = rows(&["search".into(), "other".into()], &replayed(), &SETTINGS, &Free).unwrap();
        assert_eq!(find(&rows, "search", "ndcg@10", "all").searches, 40);
        assert_eq!(find(&rows, "search", "ndcg@10", "new shoppers").searches, 10);
        let gap = find(&rows, "search - other", "ndcg@10", "all").figure;
        assert_eq!((gap.value, gap.low, gap.high), (0.5, 0.5, 0.5), "pair by pair there is no noise");
        assert_eq!(find(&rows, "search", "auc", "all").figure.value, 1.0);
        assert_eq!(find(&rows, "other", "auc", "all").figure.value, 0.5);
        assert_eq!(find(&rows, "search", "f1", "all").figure.value, 1.0);
        assert!((find(&rows, "other", "f1", "all").figure.value - 0.5).abs() < 1e-9, "saying yes to all: 1/3 and 1");
        assert!(find(&rows, "search", "ece", "all").figure.value < 0.05);
        assert_eq!(find(&rows, "search", "support", "all").figure.value, 40.0);
    }

    #[test]
    fn exposure_stands_beside_merit() {
        let kind = |brand: &str, band| Kind { brand: Some(brand.into()), band: Some(band) };
        let kinds = HashMap::from([(1, kind("Alba", 1)), (2, kind("Corvo", 5))]);
        let rows = exposure("search", &replayed(), &kinds, &SETTINGS);
        let second = metric::discount(1);
        assert!((find(&rows, "search", "exposure", "brand Alba").figure.value - 1.0 / (1.0 + second)).abs() < 1e-9);
        assert_eq!(find(&rows, "search", "merit", "brand Alba").figure.value, 1.0);
        assert_eq!(find(&rows, "search", "merit", "price band 1").figure.value, 1.0);
        assert!(find(&rows, "search", "exposure", "price band 5").figure.value > 0.3);
    }
}
