//! Products of matrices, row-major, on one thread: the same order of adding on every run.

/// `out = left · right`: left is `[rows, depth]`, right `[depth, columns]`.
pub fn product(left: &[f32], right: &[f32], rows: usize, depth: usize, columns: usize) -> Vec<f32> {
    assert!(left.len() == rows * depth && right.len() == depth * columns);
    run(left, (depth, 1), right, (columns, 1), rows, depth, columns)
}

/// `out = left · rightᵀ`: left is `[rows, depth]`, right `[columns, depth]`.
pub fn by_rows(left: &[f32], right: &[f32], rows: usize, depth: usize, columns: usize) -> Vec<f32> {
    assert!(left.len() == rows * depth && right.len() == columns * depth);
    run(left, (depth, 1), right, (1, depth), rows, depth, columns)
}

/// `out = leftᵀ · right`: left is `[depth, rows]`, right `[depth, columns]`.
pub fn by_columns(left: &[f32], right: &[f32], rows: usize, depth: usize, columns: usize) -> Vec<f32> {
    assert!(left.len() == depth * rows && right.len() == depth * columns);
    run(left, (1, rows), right, (columns, 1), rows, depth, columns)
}

/// Strides are (from row to row, from column to column).
fn run(
    left: &[f32],
    left_by: (usize, usize),
    right: &[f32],
    right_by: (usize, usize),
    rows: usize,
    depth: usize,
    columns: usize,
) -> Vec<f32> {
    let mut out = vec![0.0; rows * columns];
    if out.is_empty() || depth == 0 {
        return out;
    }
    // SAFETY: the callers asserted that both slices hold what the strides reach, and `out` was made for the result.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            out.as_mut_ptr(),
            1,
            columns as isize,
            false,
            left.as_ptr(),
            left_by.1 as isize,
            left_by.0 as isize,
            right.as_ptr(),
            right_by.1 as isize,
            right_by.0 as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_by_hand() {
        let (rows, depth, columns) = (3, 5, 4);
        let left: Vec<f32> = (0..rows * depth).map(|n| n as f32 - 7.0).collect();
        let right: Vec<f32> = (0..depth * columns).map(|n| (n * n % 11) as f32).collect();
        let turned = |m: &[f32], rows: usize, columns: usize| -> Vec<f32> {
            (0..columns).flat_map(|c| (0..rows).map(move |r| m[r * columns + c])).collect()
        };
        let mut wanted = vec![0.0; rows * columns];
        for r in 0..rows {
            for c in 0..columns {
                wanted[r * columns + c] = (0..depth).map(|d| left[r * depth + d] * right[d * columns + c]).sum();
            }
        }
        assert_eq!(product(&left, &right, rows, depth, columns), wanted);
        assert_eq!(by_rows(&left, &turned(&right, depth, columns), rows, depth, columns), wanted);
        assert_eq!(by_columns(&turned(&left, rows, depth), &right, rows, depth, columns), wanted);
    }
}
