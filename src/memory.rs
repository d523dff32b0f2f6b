//! Whether memory is there, asked before much of it is needed.
//!
//! Rust ends the process when an allocation fails, and a backend that ends so takes the whole server through recovery. So
//! whatever grows with what a caller passes asks here first, and an answer of no is an ordinary error.

use crate::error::{Error, Result};

/// What a call needs beside what grows with its input, in bytes.
pub const CALL: usize = 40 << 20;

/// Fails with `OutOfMemory` where `bytes` more cannot be had. They are given back at once: nobody else in this process asks
/// meanwhile. It sees limits of the address space (ulimit, RLIMIT_AS) and of the machine where it does not overcommit; a
/// container's limit shows only when pages are written.
pub fn room_for(bytes: usize) -> Result<()> {
    let mut trial: Vec<u8> = Vec::new();
    trial.try_reserve_exact(bytes).map_err(|_| Error::OutOfMemory { bytes })?;
    // Or the compiler sees that nobody reads it, and asks for nothing.
    std::hint::black_box(&mut trial);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_an_error() {
        assert_eq!(room_for(CALL), Ok(()));
        assert_eq!(room_for(usize::MAX / 4), Err(Error::OutOfMemory { bytes: usize::MAX / 4 }));
    }
}
