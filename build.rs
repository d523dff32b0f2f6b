//! Keeps the linker from dropping the sections that pgrx reads back from the library to write the SQL.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,--no-gc-sections");
}
