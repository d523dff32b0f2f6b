//! Search over an in-memory shop: what holds whatever the weights are.
#![allow(clippy::unwrap_used)]

mod common;

use common::Shop;
use pg_persona::catalog::options::SearchOptions;
use pg_persona::control::Free;
use pg_persona::parts::Dimension;
use pg_persona::search::{Question, Ranked, Request, search};
use pg_persona::store::{Scope, Store};
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;

/// Two kinds of shoes, two kinds of games, and shoppers who take the one or the other.
fn shop() -> Shop {
    let mut shop = Shop::default();
    for n in 0..20 {
        let n32 = n as f32 / 40.0;
        shop.add(&format!("running shoe {n}"), &[1.0, n32, 0.0, 0.1]);
        shop.add(&format!("leather shoe {n}"), &[0.6, 0.0, 1.0, n32]);
    }
    for item in [1, 3, 5, 7] {
        for shopper in ["anna", "arne", "asta"] {
            shop.buy(shopper, item, item as f64);
        }
    }
    for item in [2, 4, 6, 8] {
        for shopper in ["bert", "bodo", "bill"] {
            shop.buy(shopper, item, item as f64);
        }
    }
    shop.buy("newcomer", 1, 9.0);
    shop.refresh();
    shop
}

fn request<'a>(query: Option<&'a str>, user_id: Option<&'a str>, k: usize) -> Request<'a> {
    Request { query, user_id, at: None, session: None, k, options: SearchOptions::default(), understanding: None }
}

fn run(shop: &Shop, request: &Request, scope: &Scope) -> Vec<Ranked> {
    let vector: Option<Arc<[f32]>> = request.query.map(|_| Arc::from([0.7f32, 0.1, 0.7, 0.05].as_slice()));
    let question = Question::ask(shop, request, vector).unwrap();
    search(shop, request, &question, scope, &Free).unwrap()
}

#[test]
fn the_same_words_mean_something_else_to_another_shopper() {
    let shop = shop();
    let first = |user| run(&shop, &request(Some("shoe"), user, 10), &Scope::All)[0].id;
    assert_eq!(first(Some("anna")) % 2, 1, "anna takes running shoes");
    assert_eq!(first(Some("bert")) % 2, 0, "bert takes leather shoes");
}

#[test]
fn one_event_moves_like_items_up_and_taking_it_back_moves_them_back() {
    let mut shop = shop();
    let before = run(&shop, &request(Some("shoe"), Some("newcomer"), 40), &Scope::All);
    shop.buy("newcomer", 10, 10.0);
    let after = run(&shop, &request(Some("shoe"), Some("newcomer"), 40), &Scope::All);
    // Item 10 is a leather shoe, as all even ones are.
    let places =
        |list: &[Ranked]| list.iter().enumerate().filter(|(_, r)| r.id % 2 == 0).map(|(place, _)| place).sum::<usize>();
    assert!(places(&after) < places(&before), "like items went from {} to {}", places(&before), places(&after));
    shop.events.get_mut("newcomer").unwrap().pop();
    assert_eq!(run(&shop, &request(Some("shoe"), Some("newcomer"), 40), &Scope::All), before);
}

#[test]
fn what_was_seen_can_stay_out() {
    let shop = shop();
    let mut request = request(Some("shoe"), Some("anna"), 40);
    request.options = SearchOptions::read(&json!({"exclude_seen": true})).unwrap();
    let found = run(&shop, &request, &Scope::All);
    assert_eq!(found.len(), 36);
    assert!(found.iter().all(|r| ![1, 3, 5, 7].contains(&r.id)));
}

#[test]
fn a_dimension_that_is_left_out_has_no_part() {
    let shop = shop();
    let mut request = request(Some("shoe"), Some("anna"), 10);
    request.options = SearchOptions::read(&json!({"without": ["taste"], "weights": {"together": 2}})).unwrap();
    let plain = run(&shop, &Request { options: SearchOptions::default(), ..request.clone() }, &Scope::All);
    for ranked in run(&shop, &request, &Scope::All) {
        assert_eq!(ranked.parts.get(Dimension::Taste), 0.0);
        if let Some(same) = plain.iter().find(|r| r.id == ranked.id) {
            let (one, two) = (same.parts.get(Dimension::Together), ranked.parts.get(Dimension::Together));
            assert!((one * 2.0 - two).abs() < 1e-5, "{one} doubled is not {two}");
        }
    }
}

#[test]
fn somebody_unknown_and_no_query_are_no_errors() {
    let shop = shop();
    for (query, user) in [
        (Some("shoe"), Some("nobody")),
        (Some("shoe"), None),
        (None, None),
        (Some("  "), Some("anna")),
        (Some("zzz"), None),
    ] {
        assert_eq!(run(&shop, &request(query, user, 10), &Scope::All).len().min(10), 10, "{query:?} {user:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn search_is_the_full_ranking_and_score_is_the_same_alone(
        query in proptest::option::of(prop_oneof![Just("shoe"), Just("running shoe 3"), Just("leather"), Just("19")]),
        user in proptest::option::of(prop_oneof![Just("anna"), Just("bert"), Just("newcomer"), Just("nobody")]),
    ) {
        let shop = shop();
        let request = request(query, user, 40);
        let vector: Option<Arc<[f32]>> = query.map(|_| Arc::from([0.7f32, 0.1, 0.7, 0.05].as_slice()));
        let question = Question::ask(&shop, &request, vector).unwrap();
        let found = search(&shop, &request, &question, &Scope::All, &Free).unwrap();
        // The naive twin: every item by itself, sorted.
        let mut naive: Vec<(f32, i64)> = shop.ids().iter().map(|id| {
            let item = shop.items(&[*id], question.words()).unwrap().remove(0);
            (question.parts(&item).score(), *id)
        }).collect();
        naive.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let found: Vec<(f32, i64)> = found.iter().map(|r| (r.parts.score(), r.id)).collect();
        prop_assert_eq!(found, naive);
    }

    #[test]
    fn as_many_rows_come_back_as_match(ids in proptest::collection::btree_set(1i64..=40, 0..40), k in 1usize..40) {
        let shop = shop();
        let scope = Scope::Only(ids.iter().copied().collect());
        let found = run(&shop, &request(Some("running"), Some("anna"), k), &scope);
        prop_assert!(found.iter().all(|r| ids.contains(&r.id)));
        prop_assert!(found.len() >= k.min(ids.len()));
    }
}
