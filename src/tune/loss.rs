//! Losses, each with its gradient.

/// Cross-entropy of `logits` with one right `label`, of which a share `smoothing` is spread over all. The logits become
/// the gradient, times `by`.
pub(super) fn cross_entropy(logits: &mut [f32], label: usize, smoothing: f32, by: f32) -> f64 {
    let most = logits.iter().fold(f32::MIN, |a, b| a.max(*b));
    let total: f32 = logits.iter().map(|l| (l - most).exp()).sum();
    let (every, log) = (smoothing / logits.len() as f32, f64::from(total.ln()));
    let mut loss = 0.0;
    for (i, l) in logits.iter_mut().enumerate() {
        let want = every + if i == label { 1.0 - smoothing } else { 0.0 };
        loss -= f64::from(want) * (f64::from(*l - most) - log);
        *l = ((*l - most).exp() / total - want) * by;
    }
    loss
}

/// Cross-entropy of a logistic score with a grade from 0 to 1, and its gradient.
pub(super) fn logistic(logit: f32, grade: f32) -> (f64, f32) {
    let (x, y) = (f64::from(logit), f64::from(grade));
    let loss = x.max(0.0) - x * y + (-x.abs()).exp().ln_1p();
    (loss, (1.0 / (1.0 + (-x).exp()) - y) as f32)
}

/// The contrastive loss of queries and items (van den Oord et al. 2018, <https://arxiv.org/abs/1807.03748>): item `i`
/// answers query `i`, every other item is a negative unless `excused(query, item)`; and the same from the items' side.
/// Both are row-major with rows of `width`; there may be more items than queries. Gradients are added.
#[allow(clippy::too_many_arguments)] // two matrices, their gradients, and the loss's own two numbers
pub(super) fn contrast(
    queries: &[f32],
    items: &[f32],
    width: usize,
    temperature: f32,
    excused: impl Fn(usize, usize) -> bool,
    of_queries: &mut [f32],
    of_items: &mut [f32],
) -> f64 {
    let (rows, columns) = (queries.len() / width, items.len() / width);
    let mut scores = vec![0.0f32; rows * columns];
    for (i, query) in queries.chunks_exact(width).enumerate() {
        for (j, item) in items.chunks_exact(width).enumerate() {
            let masked = i != j && excused(i, j);
            scores[i * columns + j] =
                if masked { f32::NEG_INFINITY } else { crate::linear::dot(query, item) / temperature };
        }
    }
    let mut grads = vec![0.0f32; rows * columns];
    let by = 0.5 / rows.max(1) as f32;
    let mut loss = 0.0;
    let mut line = Vec::new();
    for i in 0..rows {
        line.clear();
        line.extend_from_slice(&scores[i * columns..(i + 1) * columns]);
        loss += 0.5 * cross_entropy_masked(&mut line, i, by);
        grads[i * columns..(i + 1) * columns].iter_mut().zip(&line).for_each(|(g, x)| *g += x);
        line.clear();
        line.extend((0..rows).map(|row| scores[row * columns + i]));
        loss += 0.5 * cross_entropy_masked(&mut line, i, by);
        line.iter().enumerate().for_each(|(row, x)| grads[row * columns + i] += x);
    }
    for (i, (query, of_query)) in queries.chunks_exact(width).zip(of_queries.chunks_exact_mut(width)).enumerate() {
        for (j, (item, of_item)) in items.chunks_exact(width).zip(of_items.chunks_exact_mut(width)).enumerate() {
            let g = grads[i * columns + j] / temperature;
            if g != 0.0 {
                of_query.iter_mut().zip(item).for_each(|(x, y)| *x += g * y);
                of_item.iter_mut().zip(query).for_each(|(x, y)| *x += g * y);
            }
        }
    }
    loss / rows.max(1) as f64
}

/// What queries learn of their lists from a teacher: the Kullback-Leibler divergence of the list's shares by the cosines,
/// over `temperature`, from its shares by the teacher's bare scores (Ren et al. 2021, <https://arxiv.org/abs/2110.07367>),
/// a query's mean. Row-major with rows of `width`: `[queries, width]`, `[queries, list, width]`, `[queries, list]`.
/// Gradients are added.
pub(super) fn listwise(
    queries: &[f32],
    items: &[f32],
    width: usize,
    temperature: f32,
    teacher: &[f32],
    of_queries: &mut [f32],
    of_items: &mut [f32],
) -> f64 {
    let rows = (queries.len() / width).max(1);
    let size = teacher.len() / rows;
    let by = 1.0 / (rows as f32 * temperature);
    let mut total = 0.0;
    let lists = items.chunks_exact(size * width).zip(of_items.chunks_exact_mut(size * width));
    let queries = queries.chunks_exact(width).zip(of_queries.chunks_exact_mut(width));
    for (((query, of_query), (list, of_list)), says) in queries.zip(lists).zip(teacher.chunks_exact(size)) {
        let cosines = list.chunks_exact(width).map(|item| crate::linear::dot(query, item) / temperature);
        let (own, wanted) = (log_shares(cosines.collect()), log_shares(says.to_vec()));
        for (((p, q), item), of_item) in
            own.iter().zip(&wanted).zip(list.chunks_exact(width)).zip(of_list.chunks_exact_mut(width))
        {
            total += f64::from(q.exp() * (q - p));
            let g = (p.exp() - q.exp()) * by;
            of_query.iter_mut().zip(item).for_each(|(x, y)| *x += g * y);
            of_item.iter_mut().zip(query).for_each(|(x, y)| *x += g * y);
        }
    }
    total / rows as f64
}

/// Logarithms of the shares of each score.
fn log_shares(mut scores: Vec<f32>) -> Vec<f32> {
    let most = scores.iter().fold(f32::MIN, |a, b| a.max(*b));
    let log = scores.iter().map(|s| (s - most).exp()).sum::<f32>().ln();
    scores.iter_mut().for_each(|s| *s -= most + log);
    scores
}

/// Cross-entropy where some logits are minus infinity.
fn cross_entropy_masked(logits: &mut [f32], label: usize, by: f32) -> f64 {
    let most = logits.iter().fold(f32::MIN, |a, b| a.max(*b));
    let total: f32 = logits.iter().map(|l| (l - most).exp()).sum();
    let loss = f64::from(total.ln() - (logits[label] - most));
    for (i, l) in logits.iter_mut().enumerate() {
        *l = ((*l - most).exp() / total - if i == label { 1.0 } else { 0.0 }) * by;
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_pytorchs() {
        // torch.nn.functional.cross_entropy(torch.tensor([[1., 2., .5]]), torch.tensor([1]), label_smoothing=.1) -> 0.5477
        let mut logits = [1.0, 2.0, 0.5];
        let loss = cross_entropy(&mut logits, 1, 0.1, 1.0);
        assert!((loss - 0.5477).abs() < 1e-4, "{loss}");
        assert!(logits.iter().sum::<f32>().abs() < 1e-6);
        // torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(.3), torch.tensor(.8)) -> 0.6144
        let (loss, grad) = logistic(0.3, 0.8);
        assert!((loss - 0.614_355).abs() < 1e-4 && (grad + 0.225_557).abs() < 1e-4, "{loss} {grad}");
    }

    #[test]
    fn a_list_goes_down_to_its_teacher() {
        // In Python's double precision, gradients by central differences (h = 1e-6):
        // ls = lambda x: [v - math.log(sum(map(math.exp, x))) for v in x]
        // kl = lambda s, t: sum(math.exp(b) * (b - a) for a, b in zip(ls(s), ls(t)))
        // loss = sum(kl([dot(q[i], item) / .5 for item in d[i]], t[i]) for i in range(2)) / 2
        let (queries, teacher) = ([0.6, 0.8, 1.0, 0.0], [2.0, -1.0, 0.5, 0.0, 3.0, 1.0]);
        let items = [0.8, 0.6, 0.0, 1.0, -0.6, 0.8, 0.6, -0.8, 0.28, 0.96, -1.0, 0.0];
        let (mut of_queries, mut of_items) = ([0.0; 4], [0.0; 12]);
        let loss = listwise(&queries, &items, 2, 0.5, &teacher, &mut of_queries, &mut of_items);
        assert!((loss - 0.572432).abs() < 1e-5, "{loss}");
        let want: [f32; 4] = [-0.197501, 0.121674, 0.303527, -0.963800];
        assert!(of_queries.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-5), "{of_queries:?}");
        let want: [f32; 12] = [
            -0.168757, -0.225010, 0.196266, 0.261688, -0.027508, -0.036678, 0.595723, 0.000000, -0.507523, 0.000000,
            -0.088200, 0.000000,
        ];
        assert!(of_items.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-5), "{of_items:?}");
        // As the teacher has it, there is nothing left to learn.
        let own: Vec<f32> =
            (0..6).map(|i| 2.0 * crate::linear::dot(&queries[i / 3 * 2..][..2], &items[2 * i..][..2])).collect();
        let (mut of_queries, mut of_items) = ([0.0; 4], [0.0; 12]);
        let loss = listwise(&queries, &items, 2, 0.5, &own, &mut of_queries, &mut of_items);
        assert!(loss.abs() < 1e-6 && of_queries.iter().chain(&of_items).all(|g| g.abs() < 1e-6));
    }

    #[test]
    fn the_contrast_goes_down_its_gradient() {
        let queries: Vec<f32> = (0..12).map(|i| (i as f32 * 0.7).sin()).collect();
        let items: Vec<f32> = (0..16).map(|i| (i as f32 * 1.3 + 1.0).sin()).collect();
        let excused = |i: usize, j: usize| i == 0 && j == 2;
        let loss =
            |queries: &[f32], items: &[f32]| contrast(queries, items, 4, 0.5, excused, &mut [0.0; 12], &mut [0.0; 16]);
        let (mut of_queries, mut of_items) = ([0.0; 12], [0.0; 16]);
        contrast(&queries, &items, 4, 0.5, excused, &mut of_queries, &mut of_items);
        for i in 0..12 {
            let (mut up, mut down) = (queries.clone(), queries.clone());
            up[i] += 1e-2;
            down[i] -= 1e-2;
            let slope = (loss(&up, &items) - loss(&down, &items)) / 2e-2;
            assert!((slope - f64::from(of_queries[i])).abs() < 1e-3, "query {i}: {slope} {}", of_queries[i]);
        }
        for i in 0..16 {
            let (mut up, mut down) = (items.clone(), items.clone());
            up[i] += 1e-2;
            down[i] -= 1e-2;
            let slope = (loss(&queries, &up) - loss(&queries, &down)) / 2e-2;
            assert!((slope - f64::from(of_items[i])).abs() < 1e-3, "item {i}: {slope} {}", of_items[i]);
        }
    }
}
