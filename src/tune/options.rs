//! Options of `fine_tune`: each key with its default and its range beside it.

use crate::catalog::options::from_object;
use crate::embed::gradient::{Method, Plan, Target};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

/// What is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Vectors in which what belongs together is near.
    Embed,
    /// A label for a text.
    Classify,
    /// A label for each word of a text.
    Tag,
    /// How well an item answers a query, read together.
    Rank,
}

impl Task {
    /// Every task.
    pub const ALL: [Task; 4] = [Task::Embed, Task::Classify, Task::Tag, Task::Rank];

    /// The task's word.
    pub fn name(self) -> &'static str {
        match self {
            Task::Embed => "embed",
            Task::Classify => "classify",
            Task::Tag => "tag",
            Task::Rank => "rank",
        }
    }

    /// A task by its word.
    pub fn parse(word: &str) -> Result<Task> {
        Task::ALL.into_iter().find(|task| task.name() == word).ok_or_else(|| Error::InvalidValue {
            place: "argument".into(),
            key: "task".into(),
            reason: format!("known tasks: {}", Task::ALL.map(Task::name).join(", ")),
        })
    }
}

/// What of the encoder is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MethodName {
    /// Every matrix, bias and norm.
    Full,
    /// Low-rank matrices beside the targets.
    Lora,
    /// A bottleneck in each layer.
    Adapter,
    /// Nothing: the head alone.
    Head,
}

impl MethodName {
    /// The method's word.
    pub fn name(self) -> &'static str {
        match self {
            MethodName::Full => "full",
            MethodName::Lora => "lora",
            MethodName::Adapter => "adapter",
            MethodName::Head => "head",
        }
    }
}

/// When an adapter may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Adopt {
    /// When it is better on what was held out, and has not forgotten what the base model knew.
    Better,
    /// Always.
    Always,
}

/// What of an item table's catalog `embed` and `tag` learn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// `embed`: queries where at least 500 led to an item, else the items. `tag`: both.
    Auto,
    /// What shoppers asked and then took.
    Queries,
    /// The items: titles and names against their texts (`embed`), or in their titles (`tag`).
    Items,
}

/// Options of `fine_tune`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The adapter to make. Needed.
    pub name: String,
    /// The bundle to start from. Default: `persona.model`.
    pub model: Option<String>,
    /// What of the encoder is trained: `lora`, `adapter`, `full`, `head`. Default: `lora`.
    pub method: MethodName,
    /// Column of the texts (`classify`, `tag`). Default: `text`.
    pub text: String,
    /// Column of the labels (`classify`). Default: `label`.
    pub label: String,
    /// Column of the spans (`tag`): jsonb, a list of `{"start", "end", "label"}` in characters. Default: `spans`.
    pub spans: String,
    /// Column of the queries (`embed`, `rank`). Default: `query`.
    pub query: String,
    /// Column of the items' texts (`embed`, `rank`). Default: `item`.
    pub item: String,
    /// Column of the grades (`rank`), 0 to 1 or any range: larger is better. Default: `grade`.
    pub grade: String,
    /// What `embed` and `tag` learn from, given an item table: `queries` (of its behaviour tables), `items`, `auto`. Default:
    /// `auto`.
    pub from: From,
    /// Width of LoRA's matrices, 1 to 256. Default: 16.
    pub rank: usize,
    /// What LoRA adds is scaled by alpha / rank, 0 to 1024. Default: twice the rank.
    pub alpha: Option<f32>,
    /// The matrices that LoRA changes: query, key, value, output, up, down. Default: query and value.
    pub targets: Vec<Target>,
    /// Width of the bottlenecks, 1 to 1024. Default: 48.
    pub size: usize,
    /// How many layers are trained, counted from the last; 0 is all. Default: 0.
    pub layers: usize,
    /// Passes over the rows, 1 to 1000. Default: 8; with `head` 60; `embed` and `rank` 3.
    pub epochs: Option<usize>,
    /// Rows of a step, 2 to 1024. Default: 32; with `head` 256; `embed` without a teacher 64.
    pub batch: Option<usize>,
    /// Rows whose gradients are kept at once, 1 to `batch`; 0 leaves it to `persona.maintenance_memory`. Default: 0.
    pub accumulate: usize,
    /// Largest rate of the encoder's numbers, 1e-7 to 1. Default: by method, full 5e-5, lora and adapter 1e-3.
    pub learning_rate: Option<f32>,
    /// Largest rate of the head's numbers, 1e-7 to 1. Default: 0.02.
    pub head_learning_rate: f32,
    /// Share of the steps in which the rate rises, 0 to 0.9. Default: 0.06.
    pub warmup: f32,
    /// Pull of each trained number towards the base model, 0 to 10. Default: 0.01.
    pub pull: f32,
    /// Share of the numbers that are dropped, 0 to 0.9. Default: 0.1.
    pub dropout: f32,
    /// Longest gradient of a step, 0 (any) to 1000. Default: 1.
    pub clip: f32,
    /// How much of a label's weight is shared by all, 0 to 0.5. Default: 0.
    pub smoothing: f32,
    /// Share of the rows that are held out to validate, 0 to 0.5. Default: 0.1.
    pub validation: f32,
    /// Epochs without a better validation after which it ends, 0 (never) to 1000. Default: 3.
    pub patience: usize,
    /// Tokens of a text that are read, 8 to 8192. Default: 64 (`embed`, `rank`), else the bundle's.
    pub max_length: Option<usize>,
    /// Rows that are drawn for each epoch (with a teacher: once), 0 is all. Default: 0; from an item table 4096.
    pub rows: Option<usize>,
    /// Softness of the comparison (`embed`), 0.005 to 1. Default: 0.05.
    pub temperature: f32,
    /// Items beside its own that a query is compared with (`embed`), 0 to 8: hard negatives, or with a teacher the rest of
    /// its list, half of them hard. Default: 0, with a teacher 4.
    pub negatives: Option<usize>,
    /// A cross-encoder, bundle or `rank` adapter, whose judgement `embed` learns in place of the rows' own. Default: none.
    pub teacher: Option<String>,
    /// Share of each step that is general text, held to the base model's vectors (`embed`), 0 to 0.9. Default: 0.
    pub rehearsal: f32,
    /// Share of what was learnt that is kept, 0.01 to 1 (`embed` by `lora` or `full`): between the base model and what fits the
    /// rows best lies what serves other texts best (Wortsman and others, *Robust fine-tuning of zero-shot models*, 2022).
    /// Default: 1; of items alone 0.5, as nobody asks in the words of a title.
    pub keep: Option<f32>,
    /// When the adapter may be used: `better` or `always`. Default: `better`.
    pub adopt: Adopt,
    /// Makes the run what it is, 0 to 2⁵³. Default: 1.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            name: String::new(),
            model: None,
            method: MethodName::Lora,
            text: "text".into(),
            label: "label".into(),
            spans: "spans".into(),
            query: "query".into(),
            item: "item".into(),
            grade: "grade".into(),
            from: From::Auto,
            rank: 16,
            alpha: None,
            targets: vec![Target::Query, Target::Value],
            size: 48,
            layers: 0,
            epochs: None,
            batch: None,
            accumulate: 0,
            learning_rate: None,
            head_learning_rate: 0.02,
            warmup: 0.06,
            pull: 0.01,
            dropout: 0.1,
            clip: 1.0,
            smoothing: 0.0,
            validation: 0.1,
            patience: 3,
            max_length: None,
            rows: None,
            temperature: 0.05,
            negatives: None,
            teacher: None,
            rehearsal: 0.0,
            keep: None,
            adopt: Adopt::Better,
            seed: 1,
        }
    }
}

impl Options {
    /// Reads options; an unknown key or a value out of range is an error.
    pub fn read(options: &Value) -> Result<Options> {
        let read: Options = from_object("options", options)?;
        let range = |key: &str, ok: bool, range: &str| -> Result<()> {
            let reason = format!("it has to be {range}");
            if ok { Ok(()) } else { Err(Error::InvalidValue { place: "options".into(), key: key.into(), reason }) }
        };
        let within = |x: f32, low: f32, high: f32| (low..=high).contains(&x);
        let plain = |name: &str| {
            !name.is_empty()
                && name.len() <= 200
                && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))
                && !name.starts_with(['.', '-'])
                && !name.contains("..")
        };
        range("name", plain(&read.name), "the name of the adapter to make: letters, digits, dot, dash and underscore")?;
        range("rank", (1..=256).contains(&read.rank), "from 1 to 256")?;
        range("alpha", read.alpha.is_none_or(|a| within(a, 0.0, 1024.0)), "from 0 to 1024")?;
        range("targets", !read.targets.is_empty(), "at least one of query, key, value, output, up, down")?;
        range("size", (1..=1024).contains(&read.size), "from 1 to 1024")?;
        range("epochs", read.epochs.is_none_or(|n| (1..=1000).contains(&n)), "from 1 to 1000")?;
        range("batch", read.batch.is_none_or(|n| (2..=1024).contains(&n)), "from 2 to 1024")?;
        let rate = |x: f32| within(x, 1e-7, 1.0);
        range("learning_rate", read.learning_rate.is_none_or(rate), "from 1e-7 to 1")?;
        range("head_learning_rate", rate(read.head_learning_rate), "from 1e-7 to 1")?;
        range("warmup", within(read.warmup, 0.0, 0.9), "from 0 to 0.9")?;
        range("pull", within(read.pull, 0.0, 10.0), "from 0 to 10")?;
        range("dropout", within(read.dropout, 0.0, 0.9), "from 0 to 0.9")?;
        range("clip", within(read.clip, 0.0, 1000.0), "from 0 to 1000")?;
        range("smoothing", within(read.smoothing, 0.0, 0.5), "from 0 to 0.5")?;
        range("validation", within(read.validation, 0.0, 0.5), "from 0 to 0.5")?;
        range("patience", read.patience <= 1000, "from 0 to 1000")?;
        range("max_length", read.max_length.is_none_or(|n| (8..=8192).contains(&n)), "from 8 to 8192")?;
        range("temperature", within(read.temperature, 0.005, 1.0), "from 0.005 to 1")?;
        range("negatives", read.negatives.is_none_or(|n| n <= 8), "from 0 to 8")?;
        range("negatives", read.teacher.is_none() || read.negatives() > 0, "at least 1 where a teacher compares")?;
        range("rehearsal", within(read.rehearsal, 0.0, 0.9), "from 0 to 0.9")?;
        range("keep", read.keep.is_none_or(|x| within(x, 0.01, 1.0)), "from 0.01 to 1")?;
        range("seed", read.seed <= 1 << 53, "from 0 to 2^53")?;
        Ok(read)
    }

    /// What of the network is trained.
    pub fn plan(&self) -> Plan {
        let method = match self.method {
            MethodName::Head => Method::Frozen,
            MethodName::Full => Method::Full,
            MethodName::Adapter => Method::Bottleneck { size: self.size },
            MethodName::Lora => Method::Lora {
                rank: self.rank,
                alpha: self.alpha.unwrap_or(2.0 * self.rank as f32),
                targets: self.targets.clone(),
            },
        };
        Plan { method, layers: if self.layers == 0 { usize::MAX } else { self.layers } }
    }

    /// Refuses what a task has no use for.
    pub fn suit(&self, task: Task) -> Result<()> {
        let wrong = |key: &str, reason: &str| {
            Err(Error::InvalidValue { place: "options".into(), key: key.into(), reason: reason.into() })
        };
        match task {
            Task::Embed if self.method == MethodName::Head => {
                wrong("method", "embed has no head to train; known are lora, adapter, full")
            }
            Task::Classify | Task::Tag | Task::Rank if self.teacher.is_some() => {
                wrong("teacher", "only embed learns from a cross-encoder")
            }
            Task::Classify | Task::Tag | Task::Rank if self.keep.is_some() => wrong("keep", "only embed keeps a share"),
            Task::Embed if self.keep.is_some() && self.method == MethodName::Adapter => {
                wrong("keep", "a bottleneck is kept whole; lora and full can be kept in part")
            }
            _ => Ok(()),
        }
    }

    /// What each trained number of the network is multiplied by at the end, so that the share that is kept is left of what
    /// they add. `items`: whether the rows were made of items alone.
    pub fn kept(&self, task: Task, items: bool) -> f32 {
        let keep = self.keep.unwrap_or(if items && task == Task::Embed { 0.5 } else { 1.0 });
        match self.method {
            MethodName::Full => keep,
            // Both of its matrices, whose product it adds.
            MethodName::Lora => keep.sqrt(),
            MethodName::Adapter | MethodName::Head => 1.0,
        }
    }

    /// Items beside its own that a query is compared with.
    pub fn negatives(&self) -> usize {
        self.negatives.unwrap_or(if self.teacher.is_some() { 4 } else { 0 })
    }

    /// Passes over the rows.
    pub fn epochs(&self, task: Task) -> usize {
        let default = match (self.method, task) {
            (MethodName::Head, _) => 60,
            (_, Task::Embed | Task::Rank) => 3,
            _ => 8,
        };
        self.epochs.unwrap_or(default)
    }

    /// Rows of a step.
    pub fn batch(&self, task: Task) -> usize {
        let default = match (self.method, task) {
            (MethodName::Head, _) => 256,
            (_, Task::Embed) if self.teacher.is_none() => 64,
            _ => 32,
        };
        self.batch.unwrap_or(default)
    }

    /// Largest rate of the encoder's numbers.
    pub fn rate(&self) -> f32 {
        self.learning_rate.unwrap_or(if self.method == MethodName::Full { 5e-5 } else { 1e-3 })
    }

    /// Tokens of a text that are read.
    pub fn length(&self, task: Task) -> usize {
        self.max_length.unwrap_or(if matches!(task, Task::Embed | Task::Rank) { 64 } else { usize::MAX })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn of_items_alone_half_of_what_was_learnt_is_kept() {
        let read = |options: Value| Options::read(&options).unwrap();
        let plain = read(json!({"name": "mine"}));
        // A product of two such is half of what it was.
        assert!((plain.kept(Task::Embed, true).powi(2) - 0.5).abs() < 1e-6);
        assert_eq!(plain.kept(Task::Embed, false), 1.0);
        assert_eq!(plain.kept(Task::Tag, true), 1.0);
        assert_eq!(read(json!({"name": "mine", "method": "full", "keep": 0.25})).kept(Task::Embed, true), 0.25);
        let wrong = |options: Value, task: Task| read(options).suit(task).unwrap_err().to_string();
        assert!(wrong(json!({"name": "mine", "keep": 0.5}), Task::Classify).contains("keep"));
        assert!(wrong(json!({"name": "mine", "keep": 0.5, "method": "adapter"}), Task::Embed).contains("keep"));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        assert!(Options::read(&json!({"name": "mine"})).is_ok());
        for (key, value) in [
            ("rank", json!(0)),
            ("alpha", json!(-1)),
            ("targets", json!([])),
            ("targets", json!(["gate"])),
            ("size", json!(0)),
            ("epochs", json!(0)),
            ("batch", json!(1)),
            ("learning_rate", json!(0)),
            ("warmup", json!(1)),
            ("pull", json!(-1)),
            ("keep", json!(0)),
            ("dropout", json!(1)),
            ("clip", json!(-1)),
            ("smoothing", json!(0.6)),
            ("validation", json!(0.6)),
            ("max_length", json!(4)),
            ("temperature", json!(0)),
            ("negatives", json!(9)),
            ("rehearsal", json!(1)),
            ("method", json!("prompt")),
            ("colour", json!(1)),
            ("name", json!("../x")),
        ] {
            let mut options = json!({"name": "mine"});
            options[key] = value;
            assert!(Options::read(&options).is_err(), "{key} passed");
        }
        assert!(Options::read(&json!({})).is_err());
        assert!(Options::read(&json!({"name": "mine", "teacher": "judge", "negatives": 0})).is_err());
        let taught = Options::read(&json!({"name": "mine", "teacher": "judge"})).unwrap();
        assert!(taught.negatives() == 4 && taught.suit(Task::Embed).is_ok() && taught.suit(Task::Rank).is_err());
    }
}
