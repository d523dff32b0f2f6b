//! Lists that begin at an item: alternatives and complements.
#![allow(clippy::unwrap_used)]

mod common;

use common::Shop;
use pg_persona::catalog::options::SearchOptions;
use pg_persona::control::Free;
use pg_persona::parts::Dimension;
use pg_persona::recommend::{bought_together, similar, trending};
use pg_persona::search::{Question, Ranked, Request, search};
use pg_persona::store::{Scope, Trend};
use serde_json::json;

/// Cameras and bags in three colours, films, and fillers; whoever buys a camera takes a film and often the bag.
fn shop() -> Shop {
    let mut shop = Shop::default();
    let mut color = Vec::new();
    let mut kind = Vec::new();
    let mut add = |title: &str, vector: &[f32], colored: Option<&str>, of: &str| {
        color.push(colored.map(str::to_owned));
        kind.push(Some(of.to_owned()));
        shop.add(title, vector)
    };
    for (n, name) in ["red", "blue", "green"].iter().enumerate() {
        add(&format!("camera {name}"), &[1.0, 0.1 * n as f32, 0.0], Some(name), "camera"); // 1 2 3
    }
    add("film roll", &[0.2, 1.0, 0.0], None, "film"); // 4
    add("camera bag", &[0.6, 0.0, 1.0], None, "bag"); // 5
    for n in 0..20 {
        add(&format!("filler {n}"), &[(n as f32).sin(), 0.3, (n as f32).cos()], None, "filler"); // 6 to 25
    }
    shop.columns.insert("color".into(), color);
    shop.columns.insert("kind".into(), kind);
    shop.category = Some("kind".into());
    for (shopper, basket) in
        [("a", vec![1, 2, 4, 5]), ("b", vec![1, 2, 4]), ("c", vec![1, 4, 6]), ("d", vec![7, 8]), ("e", vec![6, 9])]
    {
        basket.iter().for_each(|item| shop.buy(shopper, *item, 1.0));
    }
    shop.refresh();
    shop
}

fn ask(
    shop: &Shop,
    user_id: Option<&str>,
    options: serde_json::Value,
    list: impl Fn(&Request, &Question) -> Vec<Ranked>,
) -> Vec<Ranked> {
    let options = SearchOptions::read(&options).unwrap();
    let request = Request { query: None, user_id, at: None, session: None, k: 5, options, understanding: None };
    let question = Question::ask(shop, &request, None).unwrap();
    list(&request, &question)
}

fn together(shop: &Shop, items: &[i64], scope: &Scope) -> Vec<Ranked> {
    ask(shop, None, json!({}), |r, q| bought_together(shop, r, q, items, scope, &Free).unwrap())
}

#[test]
fn a_complement_comes_first_and_another_colour_never() {
    let shop = shop();
    let found = together(&shop, &[1], &Scope::All);
    assert_eq!(found[0].id, 4, "the film, though the blue camera stands in two of three baskets");
    assert!(found[0].source.starts_with("baskets"));
    assert!(found.iter().all(|r| ![1, 2, 3].contains(&r.id)), "{found:?}");
    assert!(found[0].parts.get(Dimension::Together) > 0.0);
}

#[test]
fn a_basket_adds_up_and_its_items_stay_out() {
    let shop = shop();
    let found = together(&shop, &[4, 6], &Scope::All);
    assert!(found.iter().all(|r| r.id != 4 && r.id != 6));
    assert_eq!(found[0].id, 1, "in a basket with the film thrice, with the filler once");
}

#[test]
fn what_nobody_knows_falls_back_to_its_category_and_says_so() {
    let shop = shop();
    let found = together(&shop, &[20], &Scope::All);
    assert!(found.len() >= 5);
    assert!(found[..5].iter().all(|r| r.source == "category" && r.id >= 6), "{found:?}");
    let found = together(&shop, &[-1], &Scope::Only((1..=5).collect()));
    assert_eq!(found.len(), 5);
    assert!(found.iter().all(|r| r.source == "popular"));
}

#[test]
fn what_is_alike_comes_first_and_the_item_itself_never() {
    let shop = shop();
    let found = ask(&shop, None, json!({}), |r, q| similar(&shop, r, q, 3, &Scope::All, &Free).unwrap());
    assert!(found[..2].iter().all(|r| [1, 2].contains(&r.id)), "{found:?}");
    assert!(found.iter().all(|r| r.id != 3));
    assert!(found[0].parts.get(Dimension::Relevance) > 0.0);
}

#[test]
fn as_many_come_back_as_match() {
    let shop = shop();
    for ids in [vec![1, 2, 3], vec![4, 9, 21, 22, 23], vec![]] {
        let scope = Scope::Only(ids.clone());
        let found = ask(&shop, None, json!({}), |r, q| similar(&shop, r, q, 4, &scope, &Free).unwrap());
        assert_eq!(found.len(), ids.iter().filter(|id| **id != 4).count());
    }
}

#[test]
fn a_dimension_can_be_left_out() {
    let shop = shop();
    let found = ask(&shop, Some("d"), json!({"without": ["together"], "weights": {"popularity": 2}}), |r, q| {
        bought_together(&shop, r, q, &[1], &Scope::All, &Free).unwrap()
    });
    assert!(found.iter().all(|r| r.parts.get(Dimension::Together) == 0.0));
    let score: f64 = found[0].parts.to_json().as_object().unwrap().values().filter_map(serde_json::Value::as_f64).sum();
    assert_eq!(found[0].parts.score(), score as f32);
}

#[test]
fn what_rises_comes_first_and_what_is_popular_after() {
    let mut shop = shop();
    let kin: Vec<(i16, f32)> = (0..12).map(|age| (age, f32::from(age).exp2())).collect();
    shop.trends = vec![
        Trend { id: 9, own: vec![(0, 2.0), (6, 30.0), (8, 5.0)], kin: kin.clone() },
        Trend { id: 4, own: vec![(6, 10.0), (8, 40.0), (9, 80.0)], kin },
    ];
    let found = ask(&shop, None, json!({}), |r, q| trending(&shop, r, q, 168.0, &Scope::All, &Free).unwrap());
    assert_eq!((found[0].id, found[0].source.as_str()), (9, "trending"));
    assert!(found[0].parts.score() > 0.0 && found[1..].iter().all(|r| r.parts.score() <= 0.0 && r.source == "popular"));
}

#[test]
fn somebody_unknown_gets_what_the_segment_takes() {
    let mut shop = shop();
    shop.segments.insert(("country".into(), "FR".into()), vec![(9, 1.0), (8, 0.5)]);
    let run = |user_id, value: &str| {
        let options = SearchOptions::default();
        let request = Request { query: None, user_id, at: None, session: None, k: 5, options, understanding: None };
        let mut question = Question::ask(&shop, &request, None).unwrap();
        question.set_segments(&shop, &[("country".into(), value.into())], &request).unwrap();
        search(&shop, &request, &question, &Scope::All, &Free).unwrap()
    };
    let found = run(None, "FR");
    assert_eq!(found[..2].iter().map(|r| r.id).collect::<Vec<_>>(), [9, 8]);
    assert!(found[0].source.starts_with("segment") && found[0].parts.get(Dimension::Context) > 0.0);
    assert!(run(None, "DE").iter().all(|r| r.source == "popular"));
    assert!(
        run(Some("a"), "FR").iter().all(|r| r.parts.get(Dimension::Context) == 0.0),
        "who is known needs no segment"
    );
}
