//! The machine's accounts, as listed in `/etc/passwd`.

/// The name of an account, or its number where `/etc/passwd` does not list it (an account of a directory service).
pub fn name(uid: u32) -> String {
    let list = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&list, uid).map_or_else(|| uid.to_string(), str::to_owned)
}

/// The number of an account that `/etc/passwd` lists.
pub fn uid(name: &str) -> Option<u32> {
    uid_in(&std::fs::read_to_string("/etc/passwd").unwrap_or_default(), name)
}

fn uid_in(list: &str, name: &str) -> Option<u32> {
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name && !name.is_empty()).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// The primary group of an account. `None`: `/etc/passwd` does not list it.
pub fn group(uid: u32) -> Option<u32> {
    let list = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    group_in(&list, uid)
}

/// The home of an account. `None`: `/etc/passwd` does not list it.
pub fn home(uid: u32) -> Option<String> {
    home_in(&std::fs::read_to_string("/etc/passwd").unwrap_or_default(), uid)
}

fn home_in(list: &str, uid: u32) -> Option<String> {
    list.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let home = fields.get(5)?;
        (fields.get(2)?.parse() == Ok(uid) && home.starts_with('/')).then(|| (*home).to_owned())
    })
}

fn group_in(list: &str, uid: u32) -> Option<u32> {
    list.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next()?.parse() == Ok(uid)).then(|| fields.next()?.parse().ok())?
    })
}

fn name_in(list: &str, uid: u32) -> Option<&str> {
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// The names of this process's groups, as far as `/etc/group` lists them.
pub fn own_groups() -> Vec<String> {
    let list = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let mut own: Vec<u32> = rustix::process::getgroups().unwrap_or_default().iter().map(|g| g.as_raw()).collect();
    own.push(rustix::process::getegid().as_raw());
    groups_in(&list, &own)
}

fn groups_in(list: &str, own: &[u32]) -> Vec<String> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        own.contains(&fields.nth(1)?.parse().ok()?).then(|| name.to_owned())
    };
    list.lines().filter_map(entry).collect()
}

/// The other accounts of this machine that somebody can log in to (BND-2): entries other than root and this process's
/// own whose shell is listed in `/etc/shells`. Where that file is missing, any shell other than `nologin` and `false`
/// counts.
pub fn other_logins() -> Vec<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let shells = std::fs::read_to_string("/etc/shells").ok();
    logins_in(&passwd, shells.as_deref(), rustix::process::getuid().as_raw())
}

fn logins_in(passwd: &str, shells: Option<&str>, own: u32) -> Vec<String> {
    let can_log_in = |shell: &str| {
        let refuses = shell.ends_with("/nologin") || shell.ends_with("/false");
        // passwd(5): an empty field is /bin/sh.
        let shell = if shell.is_empty() { "/bin/sh" } else { shell };
        !refuses && shells.is_none_or(|list| list.lines().any(|line| line.trim() == shell))
    };
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let (name, uid) = (*fields.first()?, fields.get(2)?.parse::<u32>().ok()?);
        (uid != 0 && uid != own && can_log_in(fields.get(6)?.trim())).then(|| name.to_owned())
    };
    passwd.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_number() {
        let list = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/sh\nbroken\n";
        assert_eq!(name_in(list, 1000), Some("ann"));
        assert_eq!(name_in(list, 0), Some("root"));
        assert_eq!(name_in(list, 7), None);
        assert_eq!((uid_in(list, "ann"), uid_in(list, ""), uid_in(list, "broken")), (Some(1000), None, None));
        assert_eq!((group_in(list, 1000), group_in(list, 7)), (Some(1000), None));
    }

    #[test]
    fn groups_have_the_names_of_the_list() {
        let list = "root:x:0:\ndocker:x:998:ann,bob\nbroken\nann:x:1000:\n";
        assert_eq!(groups_in(list, &[1000, 998, 7]), ["docker", "ann"]);
    }

    #[test]
    fn who_can_log_in_has_a_shell_of_the_list() {
        let list = "root:x:0:0::/root:/bin/bash\nme:x:1000:1000::/home/me:/bin/sh\nann:x:1001:1001::/home/ann:/bin/bash\n\
                    www:x:33:33::/:/usr/sbin/nologin\nold:x:5:5::/:/opt/odd\nnone:x:6:6::/:\nbroken:x\n";
        let shells = "# comment\n/bin/sh\n/bin/bash\n/usr/sbin/nologin\n";
        assert_eq!(logins_in(list, Some(shells), 1000), ["ann", "none"]);
        assert_eq!(logins_in(list, None, 1000), ["ann", "old", "none"]);
    }
}
