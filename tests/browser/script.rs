//! The script itself: its types, its form, and its own tests under Node.

use crate::tools;
use std::process::Command;

#[test]
fn types_of_the_script_fit() {
    let packages = match tools::packages() {
        Ok(packages) => packages,
        Err(why) => return println!("skipped: types of the script: {why}"),
    };
    // The configuration lies where the packages are; what it includes is named from there.
    let config = packages.join("tsconfig.json");
    let base = tools::root().join("tests/browser/npm/tsconfig.json");
    let modules = tools::modules();
    let text = serde_json::json!({
        "extends": base,
        "include": [modules.join("*.js"), modules.join("*.d.ts")],
    });
    std::fs::write(&config, text.to_string()).unwrap();
    let (is_good, said) =
        tools::run(Command::new(packages.join("node_modules/.bin/tsc")).arg("-p").arg(config));
    assert!(is_good, "{said}");
}

#[test]
fn the_script_has_its_form_and_no_lint() {
    let packages = match tools::packages() {
        Ok(packages) => packages,
        Err(why) => return println!("skipped: lints of the script: {why}"),
    };
    let config = tools::root().join("tests/browser/npm");
    let mut biome = Command::new(packages.join("node_modules/.bin/biome"));
    biome.args(["check", "--error-on-warnings", "--colors=off"]).arg("--config-path").arg(config);
    biome.arg(tools::modules()).arg(tools::root().join("tests/browser/fixture")).current_dir(tools::root());
    let (is_good, said) = tools::run(&mut biome);
    assert!(is_good, "{said}");
}

#[test]
fn the_tests_of_the_script_pass() {
    if tools::find("node").is_none() {
        return println!("skipped: tests of the script: node is not installed");
    }
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=tap"])
        .arg(tools::modules().join("tests"))
        .current_dir(tools::folder());
    let (is_good, said) = tools::run(&mut node);
    assert!(is_good, "{said}");
    // A folder that has no test would pass too.
    let passed = said.lines().find_map(|line| line.strip_prefix("# pass ")?.parse::<u32>().ok());
    assert!(passed.is_some_and(|passed| passed >= 40), "{said}");
}

#[test]
fn locked_packages_name_no_registry() {
    let lock = std::fs::read_to_string(tools::root().join("tests/browser/npm/package-lock.json")).unwrap();
    assert!(!lock.contains("://") && !lock.contains("\"resolved\""), "a lock file has an address in it");
    assert!(lock.contains("\"integrity\""));
}
