//! The machine's accounts, as `/etc/passwd` lists them.

/// The name of an account, or its number where the machine's own list has none (a directory service's account).
pub fn name(uid: u32) -> String {
    let list = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&list, uid).map_or_else(|| uid.to_string(), str::to_owned)
}

fn name_in(list: &str, uid: u32) -> Option<&str> {
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
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
    }
}
