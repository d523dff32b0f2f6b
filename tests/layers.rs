//! Imports point down only: reads the sources and says so where one points up.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules by floor, the lowest first. A module may use its own floor and those below.
const FLOORS: &[&[&str]] = &[
    &["error", "control", "fault", "linear", "memory", "parts", "random"],
    &["catalog", "event", "measure"],
    &["device", "embed", "shopper", "understand"],
    &["retrieve"],
    &["store"],
    &["rank", "tune"],
    &["search", "recommend", "arrange"],
    &["learn"],
    &["replay", "served"],
    &["pg"],
];

fn floor(module: &str) -> usize {
    FLOORS.iter().position(|names| names.contains(&module)).unwrap_or_else(|| panic!("{module} stands on no floor"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn imports_point_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let own = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        // A module's own tests may look up: they see the whole.
        if own == "lib" || inside.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in code.lines().enumerate() {
            for part in line.split("crate::").skip(1) {
                let name: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let names = if name.is_empty() && part.starts_with('{') {
                    part.trim_matches(['{', '}', ';'])
                        .split(',')
                        .map(|n| n.trim().split(':').next().unwrap().to_owned())
                        .collect()
                } else {
                    vec![name]
                };
                for name in names.iter().filter(|n| FLOORS.iter().any(|f| f.contains(&n.as_str()))) {
                    if floor(name) > floor(&own) {
                        wrong.push(format!("{}:{}: {own} uses {name}", inside.display(), number + 1));
                    }
                }
            }
            if own != "pg" && (line.contains("pgrx") || line.contains("pg_sys")) {
                wrong.push(format!("{}:{}: only pg knows Postgres", inside.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_small() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let lines = |file: &Path| fs::read_to_string(file).unwrap().lines().count();
    let large: Vec<String> =
        files.iter().filter(|f| lines(f) > 500).map(|f| format!("{}: {}", f.display(), lines(f))).collect();
    assert!(large.is_empty(), "{}", large.join("\n"));
}
