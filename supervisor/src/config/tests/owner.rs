//! Who workers run as.

use super::super::Owner;
use super::Case;

/// The owner that these settings give, where the tests run as root.
fn owner(file: &str) -> Option<Option<Owner>> {
    let is_root = nix::unistd::geteuid().is_root();
    is_root.then(|| Case::new().file(file).loads().config.security.owner)
}

#[test]
fn a_number_needs_no_name_and_a_name_brings_its_group() {
    let numbers = "[security]\nuser = 65533\ngroup = \"65532\"\n";
    let Some(found) = owner(numbers) else {
        return crate::skip::skip("root, to run workers as somebody else");
    };
    let (uid, gid, groups) = (65_533, 65_532, vec![65_532]);
    assert_eq!(found, Some(Owner { uid, gid, groups }));
    let daemon = nix::unistd::User::from_name("daemon").unwrap();
    if let (Some(daemon), Some(owner)) = (daemon, owner("[security]\nuser = \"daemon\"\n")) {
        let owner = owner.unwrap();
        assert_eq!(owner.uid, daemon.uid.as_raw());
        assert_eq!(owner.gid, daemon.gid.as_raw());
        assert_eq!(owner.groups, [owner.gid]);
    }
}

#[test]
fn whoever_the_master_is_already_need_not_be_become() {
    let own = nix::unistd::geteuid().to_string();
    let case = Case::new().flag("security.user", "--user", &own);
    assert_eq!(case.loads().config.security.owner, None);
    assert_eq!(Case::new().loads().config.security.owner, None);
}

#[test]
fn a_name_that_nobody_has_is_told_with_its_place() {
    Case::new()
        .file("[security]\nuser = \"www-dota\"\n")
        .fails_with(
            "error: invalid `security.user`
  --> gracefork.toml:2:8
2 | user = \"www-dota\"
  |        ^^^^^^^^^^ there is no such user
  = help: create the user, or give a number",
        );
    Case::new()
        .flag("security.group", "--group", "www-dota")
        .fails_with(
            "error: invalid `security.group`
  --> command line
  | --group www-dota
  |         ^^^^^^^^ there is no such group
  = help: create the group, or give a number",
        );
}

#[test]
fn a_number_that_no_user_can_have_is_told_with_its_place() {
    for number in ["-1", "4294967295", "99999999999"] {
        let case = Case::new().env("GRACEFORK_SECURITY_USER", number);
        let text = case.load().unwrap_err();
        let label = "^ expected the name or number of a user, for example \"nobody\"";
        assert!(text.contains(label), "{text}");
    }
}

#[test]
fn a_user_without_a_name_has_no_group_of_its_own() {
    let case = Case::new().file("[security]\nuser = 65533\n");
    if nix::unistd::User::from_uid(65_533.into()).is_ok_and(|user| user.is_some()) {
        return;
    }
    case.fails_with(
        "error: the workers' group is not known
  --> gracefork.toml:2:8
2 | user = 65533
  |        ^^^^^ user 65533 has no name here, and so no group of its own
  = help: give `security.group` too",
    );
    let others = "[security]\nuser = 65533\ngroup = 1\ninitgroups = true\n";
    if nix::unistd::geteuid().is_root() {
        let text = Case::new().file(others).load().unwrap_err();
        let label = "initgroups = true\n  |              ^^^^ user 65533 has no name here";
        assert!(text.contains(label), "{text}");
    }
}

#[test]
fn only_root_can_have_workers_run_as_others() {
    if nix::unistd::geteuid().is_root() {
        return crate::skip::skip("a user other than root");
    }
    let text = Case::new()
        .flag("security.user", "--user", "0")
        .load()
        .unwrap_err();
    assert!(text.contains("not as root"), "{text}");
}
