//! How hard the programs are to verify, and whether they fit into older kernels.

use crate::code::code;
use ctrace_recorder::RecordError;
use ctrace_recorder::verifier::{self, Cost};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};
use std::collections::{BTreeMap, BTreeSet};

/// Figures of known kernels, kept by `cargo xtask verifier --bless`.
const GOLDEN: &str = include_str!("../../bpf/verifier.txt");
/// The object they are of.
const OBJECT: &[u8] = include_bytes!("../../bpf/ctrace.bpf.o");
/// How far a figure may be from the kept one, in parts of it: point releases of a kernel and compilers differ a little.
const TOLERANCE: f64 = 0.2;
/// How far it may be in any case, in instructions or bytes: a small program's jumps are a large part of it.
const SLACK: f64 = 32.0;
/// `MAX_BPF_STACK`, include/linux/filter.h: what the frames of a chain of calls share before Linux 6.13.
const MAX_STACK: u32 = 512;

/// The hash of the code that the figures of each kernel are of.
fn kept_code() -> BTreeMap<String, &'static str> {
    let words = GOLDEN.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words
        .filter_map(|w| match w[..] {
            [series, machine, "code", hash] if series != "#" => Some((format!("{series} {machine}"), hash)),
            _ => None,
        })
        .collect()
}

#[test]
fn kept_figures_are_of_the_committed_object() {
    let code = code(OBJECT).unwrap();
    let kept = kept_code();
    assert!(!kept.is_empty(), "recorder/bpf/verifier.txt keeps no figures: cargo xtask verifier --bless");
    let stale: Vec<&String> =
        kept.iter().filter(|(_, hash)| **hash != code).map(|(kernel, _)| kernel).collect();
    assert!(
        stale.is_empty(),
        "recorder/bpf/verifier.txt: the figures of {stale:?} are of another object: cargo xtask verifier --bless"
    );
}

#[test]
fn programs_cost_the_verifier_what_they_did() {
    let kernel = verifier::kernel();
    let golden: BTreeMap<String, Cost> = GOLDEN
        .lines()
        .filter_map(Cost::parse)
        .filter(|c| c.kernel == kernel)
        .map(|c| (c.program.clone(), c))
        .collect();
    if golden.is_empty() {
        eprintln!("skipped: no golden entry for kernel {kernel}: cargo xtask verifier --bless on it");
        return;
    }
    let costs = match verifier::costs() {
        Ok(costs) => costs,
        Err(RecordError::NoPrivilege { what, needs }) => {
            eprintln!("skipped: {what}: needs {needs}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let mut wrong = Vec::new();
    for gone in golden.keys().filter(|name| costs.iter().all(|c| c.program != **name)) {
        wrong.push(format!("{gone}: has an entry and does not load"));
    }
    for cost in &costs {
        let Some(kept) = golden.get(&cost.program) else {
            wrong.push(format!("{cost}: no entry"));
            continue;
        };
        for (what, now, then) in [
            ("verified instructions", cost.verified_insns, kept.verified_insns),
            ("translated bytes", cost.translated_bytes, kept.translated_bytes),
            ("bytes of machine code", cost.machine_bytes, kept.machine_bytes),
        ] {
            let (now, then) = (f64::from(now), f64::from(then));
            if (now - then).abs() > (TOLERANCE * then).max(SLACK) {
                wrong.push(format!("{}: {now} {what}, were {then}", cost.program));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{kernel}:\n{}\nif this is meant: cargo xtask verifier --bless",
        wrong.join("\n")
    );
}

/// A function of the object.
#[derive(Default)]
struct Function {
    /// Bytes of stack that it uses.
    frame: u32,
    calls: BTreeSet<String>,
}

/// Decodes the functions of an eBPF object (`struct bpf_insn`, include/uapi/linux/bpf.h).
fn functions(elf: &[u8]) -> BTreeMap<String, Function> {
    let file = object::File::parse(elf).unwrap();
    let named = |section, address| {
        file.symbols()
            .find(|s| {
                s.kind() == SymbolKind::Text && s.section_index() == Some(section) && s.address() == address
            })
            .map(|s| s.name().unwrap().to_owned())
    };
    let mut functions = BTreeMap::new();
    for symbol in file.symbols().filter(|s| s.kind() == SymbolKind::Text && s.size() > 0) {
        let index = symbol.section_index().unwrap();
        let section = file.section_by_index(index).unwrap();
        let relocations: BTreeMap<u64, _> = section.relocations().collect();
        let code = section.data().unwrap();
        let mut function = Function::default();
        // Registers that hold the frame pointer.
        let mut frame = [false; 16];
        let mut at = symbol.address();
        while at < symbol.address() + symbol.size() {
            let insn = &code[at as usize..at as usize + 8];
            let (op, to, from) = (insn[0], usize::from(insn[1] & 15), usize::from(insn[1] >> 4));
            let offset = i16::from_le_bytes([insn[2], insn[3]]);
            let immediate = i32::from_le_bytes([insn[4], insn[5], insn[6], insn[7]]);
            let mut uses = |bytes: i32| function.frame = function.frame.max(bytes.unsigned_abs());
            match op & 7 {
                // BPF_LDX from, BPF_ST and BPF_STX to the frame.
                1 if from == 10 && offset < 0 => uses(offset.into()),
                2 | 3 if to == 10 && offset < 0 => uses(offset.into()),
                _ => {}
            }
            match op {
                // r = fp; r += constant: the address of something in the frame.
                0xbf if from == 10 => frame[to] = true,
                0x07 if frame[to] => {
                    uses(immediate);
                    frame[to] = false;
                }
                // BPF_PSEUDO_CALL.
                0x85 if from == 1 => {
                    let target = match relocations.get(&at).map(object::Relocation::target) {
                        Some(RelocationTarget::Symbol(s)) => {
                            let symbol = file.symbol_by_index(s).unwrap();
                            let base = if symbol.kind() == SymbolKind::Section {
                                (i64::from(immediate) + 1) * 8
                            } else {
                                0
                            };
                            (symbol.section_index().unwrap(), symbol.address().wrapping_add_signed(base))
                        }
                        _ => (index, (at + 8).wrapping_add_signed(i64::from(immediate) * 8)),
                    };
                    function.calls.insert(named(target.0, target.1).expect("a call of a function"));
                }
                _ => {
                    if matches!(op & 7, 0 | 1 | 4 | 7) {
                        frame[to] = false;
                    }
                }
            }
            // BPF_LD | BPF_IMM | BPF_DW takes two.
            at += if op == 0x18 { 16 } else { 8 };
        }
        functions.insert(symbol.name().unwrap().to_owned(), function);
    }
    functions
}

/// The deepest chain of calls from a function on: bytes as the kernel counts them (`check_max_stack_depth`,
/// kernel/bpf/verifier.c), and the functions on it.
fn deepest(functions: &BTreeMap<String, Function>, name: &str) -> (u32, Vec<String>) {
    let function = &functions[name];
    let own = function.frame.max(1).next_multiple_of(32);
    let (below, mut chain) =
        function.calls.iter().map(|c| deepest(functions, c)).max_by_key(|d| d.0).unwrap_or_default();
    chain.insert(0, format!("{name} {own}"));
    (own + below, chain)
}

#[test]
fn chains_of_calls_fit_into_the_stack_of_older_kernels() {
    let functions = functions(OBJECT);
    assert!(functions.len() > 20 && functions["sys_exit"].calls.contains("exit_copies"));
    let (mut most, mut at) = (0, String::new());
    for name in functions.keys() {
        let (bytes, chain) = deepest(&functions, name);
        assert!(bytes <= MAX_STACK, "{bytes} bytes of stack: {}", chain.join(" → "));
        if bytes > most {
            (most, at) = (bytes, chain.join(" → "));
        }
    }
    println!("{most} of {MAX_STACK} bytes: {at}");
}
