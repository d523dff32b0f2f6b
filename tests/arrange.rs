//! From a ranking to a page: what holds whatever the weights are.
#![allow(clippy::unwrap_used)]

mod common;

use common::Shop;
use pg_persona::arrange::Arrangement;
use pg_persona::catalog::options::SearchOptions;
use pg_persona::catalog::rule::Rule;
use pg_persona::control::Free;
use pg_persona::parts::Dimension;
use pg_persona::search::{Question, Ranked, Request, search};
use pg_persona::store::{Record, Scope, WHOLE};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;

/// Forty lamps of four brands; each stands twice, in two colours.
fn shop() -> Shop {
    let mut shop = Shop::default();
    let (mut brand, mut group) = (Vec::new(), Vec::new());
    for n in 0..40 {
        let kind = ["floor", "table"][n % 2];
        let turn = n as f32 / 6.0;
        shop.add(&format!("lamp {kind} {n}"), &[turn.sin(), turn.cos(), 0.3]);
        brand.push(Some(["Alba", "Borea", "Corvo", "Delta"][n / 10].to_owned()));
        group.push((n < 38).then(|| format!("g{}", n / 2)));
    }
    shop.columns.insert("brand".into(), brand);
    shop.columns.insert("parent".into(), group);
    shop.category = Some("brand".into());
    for (shopper, items) in [("ann", [3, 5, 7]), ("ben", [21, 23, 25]), ("cat", [3, 5, 31])] {
        items.iter().for_each(|item| shop.buy(shopper, *item, *item as f64));
    }
    shop.refresh();
    shop
}

fn rule(row: Value) -> Rule {
    let mut all = json!({"id": 1, "filter": {}, "slot": null, "positions": 1, "strength": 1, "surfaces": null, "brand": null,
        "category": null, "context": {}, "query": null, "pattern": null});
    all.as_object_mut().unwrap().extend(row.as_object().unwrap().clone());
    Rule::read(&all).unwrap()
}

struct Asked<'a> {
    user_id: Option<&'a str>,
    k: usize,
    options: Value,
    rules: Vec<Rule>,
    scope: Scope,
    seed: u64,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Asked { user_id: None, k: 10, options: json!({}), rules: Vec::new(), scope: Scope::All, seed: 1 }
    }
}

/// The ranking, and the list that is made of it.
fn run(shop: &Shop, query: &str, asked: &Asked) -> (Vec<Ranked>, Vec<Ranked>) {
    let options = SearchOptions::read(&asked.options).unwrap();
    let request = Request { query: Some(query), user_id: asked.user_id, at: None, session: None, k: asked.k, options };
    let vector: Arc<[f32]> = Arc::from([0.5f32, 0.5, 0.5].as_slice());
    let question = Question::ask(shop, &request, Some(vector)).unwrap();
    let ranked = search(shop, &request, &question, &asked.scope, &Free).unwrap();
    let arrangement = Arrangement {
        store: shop,
        request: &request,
        question: &question,
        scope: &asked.scope,
        rules: &asked.rules,
        brand: Some("brand"),
        category: Some("brand"),
        seed: asked.seed,
    };
    let list = arrangement.arrange(ranked.clone(), &Free).unwrap();
    (ranked, list)
}

fn ids(list: &[Ranked]) -> Vec<i64> {
    list.iter().map(|r| r.id).collect()
}

fn brand(id: i64) -> usize {
    (id as usize - 1) / 10
}

#[test]
fn without_anything_asked_the_ranking_is_the_list() {
    let shop = shop();
    let (ranked, list) = run(&shop, "lamp", &Asked { user_id: Some("ann"), ..Asked::default() });
    assert_eq!(ranked, list);
}

#[test]
fn every_option_keeps_each_item_once_and_the_second_page_goes_on() {
    let shop = shop();
    for options in [
        json!({"diversity": 0.5}),
        json!({"caps": {"brand": 2}}),
        json!({"calibration": 0.5}),
        json!({"explore": 0.5}),
        json!({"blend": 0.25}),
        json!({"diversity": 0.3, "caps": {"brand": 3}, "explore": 0.2, "blend": 0.2, "calibration": 0.2}),
    ] {
        let rules = vec![
            rule(json!({"action": "pin", "filter": {"parent": "g15"}, "slot": 7})),
            rule(json!({"action": "sponsor", "filter": {"brand": "Corvo"}, "slot": 2, "positions": 2})),
        ];
        let first = Asked { user_id: Some("ann"), options: options.clone(), rules: rules.clone(), ..Asked::default() };
        let (_, all) = run(&shop, "lamp", &first);
        assert_eq!(ids(&all).iter().collect::<HashSet<_>>().len(), all.len(), "{options}");
        let mut second = options.clone();
        second["offset"] = json!(10);
        let (_, more) = run(&shop, "lamp", &Asked { options: second, ..first });
        assert_eq!(ids(&more)[..10], ids(&all)[..10], "{options}");
        assert_eq!(ids(&more).iter().collect::<HashSet<_>>().len(), more.len(), "{options}");
    }
}

#[test]
fn rules_in_their_order() {
    let shop = shop();
    let rules = vec![
        rule(json!({"id": 1, "action": "pin", "filter": {"parent": "g18"}, "slot": 2})),
        rule(json!({"id": 2, "action": "pin", "filter": {"parent": "g17"}, "slot": 2})),
        rule(json!({"id": 3, "action": "sponsor", "filter": {"brand": "Delta"}, "slot": 1, "positions": 2})),
        rule(json!({"id": 4, "action": "boost", "filter": {"brand": "Corvo"}, "strength": 50})),
        rule(json!({"id": 5, "action": "block", "filter": {"parent": "g10"}})),
        rule(json!({"id": 6, "action": "bury", "filter": {"brand": "Corvo"}, "strength": 20})),
        rule(json!({"id": 7, "action": "pin", "filter": {"parent": "g10"}, "slot": 1})),
    ];
    let (_, list) = run(&shop, "lamp", &Asked { rules, ..Asked::default() });
    assert!(list[0].source.ends_with("sponsored") && brand(list[0].id) == 3);
    assert!([37, 38].contains(&list[1].id) && list[1].source.ends_with("pinned"), "{:?}", list[1]);
    assert!([35, 36].contains(&list[2].id), "the second pin of a slot moves on");
    assert!(list[3].source.ends_with("sponsored"), "the budget's second place, behind the pins");
    assert!(list[4..10].iter().all(|r| brand(r.id) == 2), "boosted");
    assert_eq!(list[4].parts.get(Dimension::Rules), 30.0);
    assert!(ids(&list).iter().all(|id| ![21, 22].contains(id)), "blocked, pin or not");
}

#[test]
fn without_rules_no_rule_counts_and_a_pin_obeys_the_filter() {
    let shop = shop();
    let rules = vec![rule(json!({"action": "pin", "filter": {"parent": "g18"}}))];
    let options = json!({"without": ["rules"]});
    let (ranked, list) = run(&shop, "lamp", &Asked { options, rules: rules.clone(), ..Asked::default() });
    assert_eq!(ranked, list);
    let scope = Scope::Only((1..=20).collect());
    let (_, list) = run(&shop, "lamp", &Asked { rules, scope, ..Asked::default() });
    assert!(ids(&list).iter().all(|id| *id <= 20));
}

#[test]
fn one_of_each_group_and_never_more_than_the_cap() {
    let shop = shop();
    let (_, list) = run(&shop, "lamp", &Asked { options: json!({"group_by": "parent"}), ..Asked::default() });
    assert_eq!(list.len(), 21, "19 groups, and two items without one");
    let (ranked, list) = run(&shop, "lamp", &Asked { options: json!({"caps": {"brand": 3}}), ..Asked::default() });
    for page in list[..10].chunks(10) {
        for of in 0..4 {
            assert!(page.iter().filter(|r| brand(r.id) == of).count() <= 3);
        }
    }
    assert_eq!(list.len(), ranked.len());
}

#[test]
fn an_exact_query_is_not_varied() {
    let shop = shop();
    let options = json!({"diversity": 0.9, "blend": 0.5});
    let (ranked, list) =
        run(&shop, "lamp floor 4 tall", &Asked { options: options.clone(), user_id: Some("ann"), ..Asked::default() });
    assert_eq!(ranked, list);
    let (ranked, list) = run(&shop, "lamp", &Asked { options, user_id: Some("ann"), ..Asked::default() });
    assert_ne!(ids(&ranked)[..10], ids(&list)[..10]);
}

#[test]
fn blended_rows_stand_where_their_share_has_it() {
    let mut shop = shop();
    shop.add("rug red", &[0.1, 0.9, -0.5]);
    shop.columns.values_mut().for_each(|column| column.push(None));
    for shopper in ["ann", "ben"] {
        shop.buy(shopper, 41, 50.0);
    }
    shop.refresh();
    let asked = Asked { user_id: Some("cat"), options: json!({"blend": 0.2}), scope: Scope::All, ..Asked::default() };
    let (_, list) = run(&shop, "floor", &asked);
    let places: Vec<usize> = (0..10).filter(|p| list[*p].source.starts_with("recommended")).collect();
    assert_eq!(places, [4, 9]);
}

#[test]
fn chances_are_shown_and_true() {
    let mut shop = shop();
    shop.records.insert(WHOLE, Record { shown: 4000.0, taken: 400.0 });
    for id in 1..=38 {
        shop.records.insert(id, Record { shown: 100.0, taken: 8.0 });
    }
    let chance = |r: &Ranked| r.source.rsplit_once(" p=").unwrap().1.parse::<f64>().unwrap();
    let (mut seen, mut expected, mut explored) = (0.0, 0.0, 0);
    let runs = 400;
    let first = run(&shop, "lamp", &Asked::default()).0[0].id;
    for seed in 0..runs {
        let asked = Asked { options: json!({"explore": 0.3}), seed, ..Asked::default() };
        let (_, list) = run(&shop, "lamp", &asked);
        assert_eq!(run(&shop, "lamp", &asked).1, list, "the same seed, the same list");
        assert!(list[..10].iter().all(|r| (0.0..=1.0).contains(&chance(r)) && chance(r) > 0.0));
        explored += list[..10].iter().filter(|r| r.source.contains("explored") && [39, 40].contains(&r.id)).count();
        if list[0].id == first {
            seen += 1.0;
            expected = chance(&list[0]);
        }
    }
    assert!((seen / runs as f64 - expected).abs() < 0.06, "{} against {expected}", seen / runs as f64);
    assert!(explored > 100, "the new ones are shown: {explored}");
}
