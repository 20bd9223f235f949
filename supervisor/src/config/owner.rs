//! Who workers run as: names looked up while the settings are read, since between fork and exec
//! nothing can be.

use std::ffi::CString;
use std::fmt;
use std::io;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist};
use rustix::thread::{CapabilitySet, capabilities};

use super::field::{Fault, Field};
use super::load::Layers;
use super::raw::Item;
use super::settings::Setting;
use super::toml_text;

/// A user, and the groups that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The number of the group.
    pub gid: u32,
    /// Every group: the one above, and with `initgroups` all of the user.
    pub groups: Vec<u32>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}, group {}", self.uid, self.gid)
    }
}

/// A user by name or number; a number need not have a name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct UserId(Account);

/// A group by name or number; a number need not have a name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct GroupId(Account);

#[derive(Debug, Clone, Default, PartialEq)]
struct Account {
    id: u32,
    /// As TOML.
    written: String,
}

impl Account {
    /// A number, or a name that `find` knows.
    fn read(
        item: &Item,
        kind: &str,
        find: impl Fn(&str) -> nix::Result<Option<u32>>,
    ) -> Result<Self, Fault> {
        if let Some(number) = item.whole().or_else(|| item.text()?.parse().ok()) {
            // -1 stands for "leave it as it is" where the kernel is told.
            let id = u32::try_from(number).ok().filter(|id| *id != u32::MAX);
            let written = number.to_string();
            let id = id.ok_or_else(Fault::default)?;
            return Ok(Self { id, written });
        }
        let name = item.text().filter(|name| !name.is_empty());
        let name = name.ok_or_else(Fault::default)?;
        let found = match find(name) {
            // What getpwnam_r(3) may say of a name that is not there.
            Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => None,
            found => found.map_err(|error| {
                Fault::at(item, format!("{kind}s cannot be looked up: {error}"))
            })?,
        };
        let id = found.ok_or_else(|| {
            let help = format!("create the {kind}, or give a number");
            Fault::at(item, format!("there is no such {kind}")).help(help)
        })?;
        let written = toml_text::string(name);
        Ok(Self { id, written })
    }
}

impl Field for UserId {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        let find = |name: &str| Ok(User::from_name(name)?.map(|user| user.uid.as_raw()));
        self.0 = Account::read(item, "user", find)?;
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        "the name or number of a user".to_owned()
    }

    fn value_name(&self) -> &'static str {
        "USER"
    }

    fn show(&self) -> Option<String> {
        Some(self.0.written.clone())
    }
}

impl Field for GroupId {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        let find = |name: &str| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()));
        self.0 = Account::read(item, "group", find)?;
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        "the name or number of a group".to_owned()
    }

    fn value_name(&self) -> &'static str {
        "GROUP"
    }

    fn show(&self) -> Option<String> {
        Some(self.0.written.clone())
    }
}

const USER: &str = "security.user";
const GROUP: &str = "security.group";

/// Works out who workers run as, and whether the master can see to it.
pub(crate) fn settle(layers: &mut Layers) {
    let draft = layers.draft.security.clone();
    let (own_uid, own_gid) = (geteuid().as_raw(), getegid().as_raw());
    let uid = draft.user.0.as_ref().map_or(own_uid, |user| user.0.id);
    let named = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let gid = match (&draft.group.0, &named) {
        (Some(group), _) => group.0.id,
        (None, _) if uid == own_uid => own_gid,
        (None, Some(user)) => user.gid.as_raw(),
        (None, None) => {
            let label = format!("user {uid} has no name here, and so no group of its own");
            let help = "give `security.group` too";
            return layers.conflict("the workers' group is not known", &[USER], &label, help);
        }
    };
    if (uid, gid) == (own_uid, own_gid) {
        return;
    }
    if let Err(reason) = may_change_users(own_uid) {
        let help = "start gracefork as root; or leave `user` and `group` out and start it as the user that workers are to run as";
        let headline = "workers cannot run as another user or group";
        return layers.conflict(headline, &[USER, GROUP], &reason, help);
    }
    let groups = if draft.initgroups {
        named.map_or_else(
            || Err(io::Error::other(format!("user {uid} has no name here"))),
            |user| groups_of(&user.name, gid),
        )
    } else {
        Ok(vec![gid])
    };
    match groups {
        Ok(groups) => {
            layers.draft.config.security.owner = Some(Owner { uid, gid, groups });
        }
        Err(error) => {
            let paths = ["security.initgroups", USER];
            let headline = "the groups of the workers' user cannot be found";
            let help = "leave `initgroups` out: workers are then in the one group alone";
            layers.conflict(headline, &paths, &error.to_string(), help);
        }
    }
}

/// All groups of a user, `gid` among them.
fn groups_of(name: &str, gid: u32) -> io::Result<Vec<u32>> {
    let groups = getgrouplist(&CString::new(name)?, Gid::from_raw(gid))?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

/// Why not. Root alone: what others would keep of their capabilities, workers would keep too.
fn may_change_users(own_uid: u32) -> Result<(), String> {
    if own_uid != 0 {
        return Err(format!("gracefork runs as user {own_uid}, not as root"));
    }
    // KILL: the master signals workers that are somebody else.
    let needed = [
        (CapabilitySet::SETUID, "CAP_SETUID"),
        (CapabilitySet::SETGID, "CAP_SETGID"),
        (CapabilitySet::KILL, "CAP_KILL"),
    ];
    let held = capabilities(None).map_err(|error| error.to_string())?;
    let missing = needed
        .iter()
        .filter(|(capability, _)| !held.effective.contains(*capability));
    let missing: Vec<&str> = missing.map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "gracefork runs as root without {}",
        missing.join(", ")
    ))
}
