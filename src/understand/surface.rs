//! Question words, comparisons, requests: what the surface of a query shows whatever is sold.

use super::normalize::{Form, Token};

/// Features of the surface.
pub const SURFACE: usize = 24;

/// What shows, by its place among [`SURFACE`] features: signs are 1, lengths up to 2.
pub fn surface(text: &str, tokens: &[Token]) -> impl Iterator<Item = (usize, f32)> {
    let has = |words: &[&str]| tokens.iter().any(|t| words.contains(&t.text.as_str()));
    let holds = |parts: &[&str]| parts.iter().any(|p| text.contains(p));
    let first = tokens.first().map_or("", |t| t.text.as_str());
    let count = |form: Form| tokens.iter().filter(|t| t.form == form).count();
    let n = tokens.len() as f32;
    let cjk = text.chars().any(|c| super::segment::script(c).is_some());
    let signs = [
        has(&["vs", "versus", "vs.", "compare", "compared", "comparison", "difference", "differences"])
            || holds(&["对比", "区别", "比较"]),
        has(&["or"]) || holds(&["还是"]),
        holds(&["哪个", "哪款更", "which is better", "better than", "which one"]),
        holds(&["和", "与", "跟", "vs"]) && cjk,
        matches!(first, "how" | "what" | "why" | "when" | "where" | "who" | "which" | "what's"),
        has(&[
            "how",
            "which",
            "should",
            "recommend",
            "suggest",
            "advice",
            "tips",
            "guide",
            "need",
            "choose",
            "pick",
            "suitable",
            "good",
            "best",
        ]),
        holds(&["怎么", "如何", "什么", "推荐", "建议", "吗", "多大", "合适", "够用", "适合"]),
        matches!(first, "is" | "are" | "do" | "does" | "can" | "will" | "should" | "did" | "am"),
        has(&["my", "i", "me"]),
        has(&[
            "order",
            "return",
            "returns",
            "refund",
            "warranty",
            "guarantee",
            "shipping",
            "delivery",
            "track",
            "tracking",
            "package",
            "parcel",
            "invoice",
            "account",
            "password",
            "payment",
            "exchange",
            "cancel",
            "customer",
            "support",
            "repair",
            "replacement",
            "coupon",
            "voucher",
            "broken",
            "damaged",
            "defective",
        ]),
        holds(&[
            "退",
            "换货",
            "订单",
            "快递",
            "保修",
            "客服",
            "发票",
            "发货",
            "物流",
            "优惠券",
            "优惠码",
            "账号",
            "密码",
            "收货",
            "运费",
            "包邮",
            "维修",
            "坏了",
            "付款",
        ]),
        count(Form::Model) > 0,
        count(Form::Measure) > 0,
        count(Form::Number) > 0,
        super::price::find(tokens).is_some(),
        has(&["with", "for", "without", "in"]),
        has(&[
            "size",
            "black",
            "white",
            "red",
            "blue",
            "green",
            "grey",
            "gray",
            "pink",
            "brown",
            "silver",
            "gold",
            "cotton",
            "leather",
            "wireless",
            "waterproof",
            "cheap",
            "small",
            "large",
            "wide",
            "organic",
        ]) || holds(&["色", "码", "防水", "无线", "以下", "以内", "真皮", "纯棉"]),
        has(&["gift", "gifts", "presents", "sale", "new", "deals", "ideas", "clearance", "popular", "sellers"])
            || holds(&["礼物", "新品", "热销", "打折", "促销", "特价"]),
        n <= 1.0,
        n == 2.0,
        cjk,
    ];
    let lengths = [(21, (n / 4.0).min(2.0)), (22, (n - 6.0).clamp(0.0, 8.0) / 4.0)];
    signs.into_iter().enumerate().filter(|(_, sign)| *sign).map(|(at, _)| (at, 1.0)).chain(lengths)
}
