//! Held-out behaviour replayed over an in-memory shop.
#![allow(clippy::unwrap_used)]

mod common;

use common::Shop;
use pg_persona::catalog::options::SearchOptions;
use pg_persona::catalog::rule::Rule;
use pg_persona::control::Free;
use pg_persona::error::Result;
use pg_persona::measure::report::{self, Replayed};
use pg_persona::replay::{Reading, Settings, Target, Variant, pseudo_queries, replay};
use serde_json::json;
use std::collections::HashMap;

/// Twenty boots and twenty sandals; shoppers of one kind buy six of it, and will buy a seventh.
fn shop() -> (Shop, Vec<Target>) {
    let mut shop = Shop::default();
    for n in 0..20 {
        let turn = n as f32 * 0.01;
        shop.add(&format!("shoe boot {n}"), &[1.0, 0.1 + turn, 0.2]);
        shop.add(&format!("shoe sandal {n}"), &[0.1 + turn, 1.0, 0.2]);
    }
    let mut targets = Vec::new();
    for shopper in 0..10i64 {
        let item = |step: i64| 1 + 2 * ((shopper * 3 + step) % 20) + shopper % 2;
        for step in 0..6 {
            shop.buy(&shopper.to_string(), item(step), step as f64);
        }
        targets.push(Target {
            shopper: shopper.to_string(),
            query: Some("shoes".into()),
            at: 6.0 * 86_400.0,
            taken: vec![(item(6), 1.0)],
            ..Target::default()
        });
    }
    shop.refresh();
    (shop, targets)
}

fn run(shop: &Shop, targets: &[Target], asked: &HashMap<String, u64>) -> Vec<Replayed> {
    run_by(shop, targets, asked, Vec::new())
}

fn run_by(shop: &Shop, targets: &[Target], asked: &HashMap<String, u64>, rules: Vec<Rule>) -> Vec<Replayed> {
    replayed(shop, targets, asked, &|_| rules.clone())
}

/// The rules for a context.
type Rules<'a> = dyn Fn(&[(String, String)]) -> Vec<Rule> + 'a;

fn replayed(shop: &Shop, targets: &[Target], asked: &HashMap<String, u64>, rules: &Rules) -> Vec<Replayed> {
    let options = SearchOptions { exclude_seen: true, ..SearchOptions::default() };
    let variants = [
        Variant::personal("search", options.clone()),
        Variant::unpersonalised("unpersonalised", options),
        Variant::lexical("lexical"),
    ];
    let settings = Settings {
        k: 10,
        only_new: false,
        looked: None,
        asked,
        ranker: &|_| Ok(None),
        rules: &|_, _, context| Ok(rules(context)),
        brand: None,
        category: None,
        seed: 1,
    };
    let mut read = |_: &str, _: &SearchOptions| -> Result<Reading> { Ok((None, None)) };
    replay(shop, targets, &variants, &settings, &mut read, &Free).unwrap()
}

#[test]
fn the_shopper_helps_where_tastes_differ() {
    let (shop, targets) = shop();
    let replayed = run(&shop, &targets, &HashMap::new());
    assert_eq!(replayed.len(), 10);
    let settings = report::Settings { k: 10, seed: 1, clip: 0.01 };
    let names: Vec<String> = ["search", "unpersonalised", "lexical"].map(str::to_owned).to_vec();
    let rows = report::rows(&names, &replayed, &settings, &Free).unwrap();
    let gap = rows.iter().find(|r| r.variant == "search - unpersonalised" && r.metric == "recall@10").unwrap();
    assert!(gap.figure.low > 0.0, "{gap:?}");
}

#[test]
fn what_is_replayed_is_the_page_that_the_shop_would_show() {
    let (shop, targets) = shop();
    let all = json!({"id": 1, "action": "block", "filter": {}, "slot": null, "positions": 1, "strength": 1, "surfaces": null,
        "brand": null, "category": null, "context": {}, "query": null, "pattern": null});
    let replayed = run_by(&shop, &targets, &HashMap::new(), vec![Rule::read(&all).unwrap()]);
    assert!(replayed.iter().all(|search| search.outcomes[0].top.is_empty()), "a rule blocks every item");
    assert!(run(&shop, &targets, &HashMap::new()).iter().all(|search| search.outcomes[0].top.len() == 10));
}

#[test]
fn a_replay_has_the_context_of_its_moment() {
    let (shop, mut targets) = shop();
    targets[0].context = vec![("device".into(), "phone".into())];
    let phones = json!({"id": 1, "action": "block", "filter": {}, "slot": null, "positions": 1, "strength": 1, "surfaces": null,
        "brand": null, "category": null, "context": {"device": "phone"}, "query": null, "pattern": null});
    let rule = Rule::read(&phones).unwrap();
    let rules = |context: &[(String, String)]| if context.is_empty() { Vec::new() } else { vec![rule.clone()] };
    let replayed = replayed(&shop, &targets, &HashMap::new(), &rules);
    assert!(replayed[0].outcomes[0].top.is_empty(), "the rule is for phones");
    assert_eq!(replayed[0].outcomes[1].top.len(), 10, "nobody in particular has no device");
    assert!(replayed[1..].iter().all(|search| search.outcomes[0].top.len() == 10));
}

#[test]
fn what_happens_from_the_moment_on_is_not_known() {
    let (mut shop, mut targets) = shop();
    let before = run(&shop, &targets, &HashMap::new());
    // The shopper buys the very thing at the moment itself, and afterwards: the replay must not change.
    for target in targets.clone() {
        shop.buy(&target.shopper, target.taken[0].0, 6.0);
        shop.buy(&target.shopper, target.taken[0].0, 7.0);
    }
    assert_eq!(run(&shop, &targets, &HashMap::new()), before);
    // A moment later it would.
    targets.iter_mut().for_each(|target| target.at = 8.0 * 86_400.0);
    assert_ne!(run(&shop, &targets, &HashMap::new()), before);
}

#[test]
fn slices_tell_new_from_heavy_and_head_from_tail() {
    let (shop, mut targets) = shop();
    targets.push(Target { shopper: "nobody".into(), query: Some("boot".into()), ..targets[0].clone() });
    let asked = HashMap::from([("shoes".to_owned(), 10), ("boot".to_owned(), 1)]);
    let replayed = run(&shop, &targets, &asked);
    assert_eq!(replayed[0].slices, ["heavy shoppers", "head queries"]);
    assert_eq!(replayed[10].slices, ["new shoppers", "tail queries"]);
}

#[test]
fn a_word_of_a_title_stands_for_a_query() {
    let (shop, mut targets) = shop();
    targets.iter_mut().for_each(|target| {
        target.query = None;
        target.taken = vec![(1, 1.0), (3, 1.0)];
    });
    // "boot" is in half of the titles and says too little; the number is in two of forty.
    let titles: HashMap<i64, String> =
        shop.ids().into_iter().map(|id| (id, shop.products[id as usize - 1].title.clone())).collect();
    let titles =
        titles.into_iter().map(|(id, title)| (id, title.replace(" 0", " 11").replace(" 1 ", " 11 "))).collect();
    let made = pseudo_queries(&shop, &targets, &titles, 1, &Free).unwrap();
    assert!(!made.is_empty());
    for target in made {
        assert_eq!(target.query.as_deref(), Some("11"));
        assert_eq!(target.taken, [(1, 1.0)], "what else was taken and lacks the word is no answer");
    }
}
