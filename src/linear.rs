//! Plain vector arithmetic.

/// The dot product of two vectors; what the longer one has more counts nothing.
pub fn dot(left: &[f32], right: &[f32]) -> f32 {
    // Sixteen sums at once: the compiler turns them into vector instructions, and the order of adding is fixed.
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let length = left.len().min(right.len());
    let (left, right) = (&left[..length], &right[..length]);
    let (left_chunks, right_chunks) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest: f32 = left_chunks.remainder().iter().zip(right_chunks.remainder()).map(|(l, r)| l * r).sum();
    for (l, r) in left_chunks.zip(right_chunks) {
        for lane in 0..LANES {
            sums[lane] += l[lane] * r[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::dot;

    #[test]
    fn as_by_hand() {
        let left: Vec<f32> = (0..35).map(|n| n as f32).collect();
        assert_eq!(dot(&left, &left), (0..35).map(|n| (n * n) as f32).sum::<f32>());
        assert_eq!(dot(&left, &[2.0, 3.0]), 3.0);
    }
}
