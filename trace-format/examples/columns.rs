//! Says where the bytes of a trace go: chunks by type, columns by size.
//!
//! `cargo run --release -p ctrace-format --example columns -- FILE [ROWS]`
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, reason = "an example is no library")]

use ctrace_format::{Class, Trace, sizes, syscalls};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let path = PathBuf::from(args.next().ok_or("name a trace")?);
    let rows: usize = args.next().and_then(|n| n.to_str()?.parse().ok()).unwrap_or(30);
    let trace = Trace::open(&path)?;
    let calls = trace.counts().get(&Class::Syscall).copied().unwrap_or(0).max(1) as f64;
    println!("{} bytes, {calls} calls, {:.2} a call", trace.file_bytes(), trace.file_bytes() as f64 / calls);
    let sizes = sizes(&trace)?;
    for (name, (bytes, count)) in &sizes.chunks {
        println!("{bytes:>10} {:>6.3} a call  {name}, {count} chunks", *bytes as f64 / calls);
    }
    let mut columns: Vec<_> = sizes.columns.iter().collect();
    columns.sort_by_key(|(_, size)| std::cmp::Reverse(size.compressed));
    println!("\n    values    encoded compressed  a call  a value  encodings");
    for (name, size) in columns.iter().take(rows) {
        let call = match name.sysno.and_then(syscalls::name) {
            Some(name) => name,
            None if name.of_rows => "rows",
            None => "",
        };
        let encodings: Vec<String> =
            size.encodings.iter().map(|(encoding, n)| format!("{encoding}×{n}")).collect();
        println!(
            "{:>10} {:>10} {:>10} {:>7.3} {:>8.3}  {:<12} {} {call} field {} {:02x?}",
            size.values,
            size.encoded,
            size.compressed,
            size.compressed as f64 / calls,
            size.compressed as f64 / size.values.max(1) as f64,
            encodings.join(" "),
            name.class.name(),
            name.field,
            name.shape,
        );
    }
    let all: u64 = columns.iter().map(|(_, size)| size.compressed).sum();
    println!("{all:>32} {:>7.3}  all columns, each by itself", all as f64 / calls);
    Ok(())
}
