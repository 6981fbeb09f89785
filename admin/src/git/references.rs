//! The branches that Git is shown, from the hub's log, and which of them is which stage.

use super::{pkt_line, route::Place};
use common::app_tag::{AppTag, PRODUCTION};
use proto::hub::v1::App;
use repository::ObjectId;

/// Branches of an app's repository that are its production.
const PRODUCTION_BRANCHES: [&str; 2] = ["main", "master"];

const HEADS: &str = "refs/heads/";

/// A repository's branches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct References {
    /// By name.
    list: Vec<(String, ObjectId)>,
    /// The branch that a clone checks out; it need not be there.
    head: Option<String>,
}

impl References {
    /// The branches of `place` among the hub's apps.
    pub(crate) fn of(place: &Place, apps: &[App]) -> Self {
        let mut list = Vec::new();
        for app in apps {
            let (Ok(tag), Ok(commit)) = (AppTag::parse(&app.tag), ObjectId::from_bytes(&app.commit)) else {
                continue;
            };
            let names = match place {
                Place::All => vec![tag.reference()],
                Place::App { host, name } if tag.host == *host && tag.name == *name => branches(&tag),
                Place::App { .. } => continue,
            };
            list.extend(names.into_iter().map(|name| (name, commit)));
        }
        list.sort_unstable();
        let head = match place {
            Place::All => list.first().map(|(name, _)| name.clone()),
            Place::App { .. } => Some(format!("{HEADS}{}", PRODUCTION_BRANCHES[0])),
        };
        Self { list, head }
    }

    /// What the branches are at, each once.
    pub(crate) fn tips(&self) -> Vec<ObjectId> {
        let mut tips: Vec<_> = self.list.iter().map(|(_, id)| *id).collect();
        tips.sort_unstable();
        tips.dedup();
        tips
    }

    /// `HEAD`'s branch, if it is there.
    fn head(&self) -> Option<(&str, ObjectId)> {
        let head = self.head.as_ref()?;
        self.list.iter().find(|(name, _)| name == head).map(|(name, id)| (name.as_str(), *id))
    }

    /// As protocol version 0 advertises them, with `capabilities` (gitprotocol-pack, "Reference Discovery"). `HEAD` is for those who
    /// fetch.
    pub(crate) fn advertise(&self, capabilities: &str, with_head: bool, out: &mut Vec<u8>) {
        let head = self.head().filter(|_| with_head);
        let symref = head.map(|(name, _)| format!(" symref=HEAD:{name}")).unwrap_or_default();
        let mut capabilities = Some(format!("\0{capabilities}{symref}"));
        let all = head
            .map(|(_, id)| ("HEAD", id))
            .into_iter()
            .chain(self.list.iter().map(|(name, id)| (&**name, *id)));
        for (name, id) in all {
            let capabilities = capabilities.take().unwrap_or_default();
            pkt_line::put(out, format!("{id} {name}{capabilities}\n").as_bytes());
        }
        if let Some(capabilities) = capabilities {
            let none = ObjectId::NULL;
            pkt_line::put(out, format!("{none} capabilities^{{}}{capabilities}\n").as_bytes());
        }
        out.extend_from_slice(pkt_line::FLUSH);
    }

    /// As version 2 lists them (gitprotocol-v2, "ls-refs").
    pub(crate) fn list(&self, asked: &ListReferences, out: &mut Vec<u8>) {
        let wanted = |name: &str| {
            asked.prefixes.is_empty() || asked.prefixes.iter().any(|it| name.as_bytes().starts_with(it))
        };
        if wanted("HEAD") {
            let target = |name: &str| format!(" symref-target:{name}");
            let line = match (self.head(), &self.head) {
                (Some((name, id)), _) => {
                    let target = if asked.symrefs { target(name) } else { String::new() };
                    Some(format!("{id} HEAD{target}\n"))
                }
                (None, Some(head)) if asked.unborn => Some(format!("unborn HEAD{}\n", target(head))),
                (None, _) => None,
            };
            line.iter().for_each(|line| pkt_line::put(out, line.as_bytes()));
        }
        for (name, id) in self.list.iter().filter(|(name, _)| wanted(name)) {
            pkt_line::put(out, format!("{id} {name}\n").as_bytes());
        }
        out.extend_from_slice(pkt_line::FLUSH);
    }
}

/// What version 2 asks for with `ls-refs`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ListReferences {
    pub(crate) symrefs: bool,
    pub(crate) unborn: bool,
    /// Names begin with one of these; none: all names.
    pub(crate) prefixes: Vec<Vec<u8>>,
}

/// The branches of an app's repository that are at this tag.
fn branches(tag: &AppTag) -> Vec<String> {
    let named = |names: &[&str]| names.iter().map(|name| format!("{HEADS}{name}")).collect();
    match (&tag.version, tag.stage.as_str()) {
        (Some(_), _) => Vec::new(),
        (None, PRODUCTION) => named(&PRODUCTION_BRANCHES),
        // Their names are taken.
        (None, stage) if PRODUCTION_BRANCHES.contains(&stage) => Vec::new(),
        (None, stage) => named(&[stage]),
    }
}

/// What a branch of an app's repository stands for.
///
/// # Errors
/// It stands for nothing: why, in one line.
pub(crate) fn tag_of(host: &str, name: &str, reference: &str) -> Result<AppTag, String> {
    let branch = reference.strip_prefix(HEADS).ok_or("only branches are deployed: `main` is production")?;
    let stage = match branch {
        PRODUCTION => return Err("push it as `main`: that is production".to_owned()),
        _ if PRODUCTION_BRANCHES.contains(&branch) => PRODUCTION,
        _ => branch,
    };
    AppTag::new(stage, host, name, None).map_err(|cause| cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(tag: &str, commit: u8) -> App {
        let commit = if commit == 0 { Vec::new() } else { vec![commit; 20] };
        App { tag: tag.to_owned(), commit: commit.into(), ..App::default() }
    }

    fn apps() -> Vec<App> {
        vec![
            app("main/webapp/default/shop", 9),
            app("production/webapp/default/blog", 1),
            app("production/webapp/default/failed", 0),
            app("production/webapp/default/shop", 2),
            app("production/webapp/default/shop-1.2", 3),
            app("production/webapp/www.example.com/shop", 4),
            app("test/webapp/default/shop", 5),
        ]
    }

    fn shop() -> Place {
        Place::App { host: "default".to_owned(), name: "shop".to_owned() }
    }

    fn shown(list: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
        let mut out = Vec::new();
        list(&mut out);
        let (mut rest, mut lines) = (&out[..], Vec::new());
        while let Some(line) = pkt_line::next(&mut rest).unwrap() {
            if let pkt_line::PktLine::Data(data) = line {
                let id = if data.contains(&b' ') && data[0].is_ascii_hexdigit() { 38 } else { 0 };
                lines.push(String::from_utf8(data[id..].to_vec()).unwrap().trim_end().to_owned());
            }
        }
        lines
    }

    #[test]
    fn an_apps_branches_are_its_stages_and_main_is_production() {
        let references = References::of(&shop(), &apps());
        let lines = shown(|out| references.advertise("ofs-delta", true, out));
        assert_eq!(
            lines,
            [
                "02 HEAD\0ofs-delta symref=HEAD:refs/heads/main",
                "02 refs/heads/main",
                "02 refs/heads/master",
                "05 refs/heads/test"
            ]
        );
        let lines = shown(|out| references.advertise("ofs-delta", false, out));
        assert_eq!(lines[0], "02 refs/heads/main\0ofs-delta");
        assert_eq!(references.tips().len(), 2);
    }

    #[test]
    fn the_whole_repository_has_every_app_by_its_tag() {
        let references = References::of(&Place::All, &apps());
        let asked = ListReferences { symrefs: true, ..ListReferences::default() };
        let lines = shown(|out| references.list(&asked, out));
        assert_eq!(lines[0], "09 HEAD symref-target:refs/heads/main/webapp/default/shop");
        assert_eq!(lines.len(), 7);
        let asked = ListReferences { prefixes: vec![b"refs/heads/test/".to_vec()], ..asked };
        assert_eq!(shown(|out| references.list(&asked, out)), ["05 refs/heads/test/webapp/default/shop"]);
    }

    #[test]
    fn where_nothing_is_deployed_there_is_an_unborn_main() {
        let references = References::of(&shop(), &[]);
        let null = "0000000000000000000000000000000000000000";
        let lines = shown(|out| references.advertise("ofs-delta", true, out));
        assert_eq!(format!("{}{}", &null[..38], lines[0]), format!("{null} capabilities^{{}}\0ofs-delta"));
        let asked = ListReferences { unborn: true, ..ListReferences::default() };
        let lines = shown(|out| references.list(&asked, out));
        assert_eq!(lines, ["unborn HEAD symref-target:refs/heads/main"]);
        assert!(shown(|out| References::of(&Place::All, &[]).list(&asked, out)).is_empty());
    }

    #[test]
    fn branches_are_stages() {
        let tag = |reference: &str| tag_of("default", "shop", reference).map(|it| it.to_string());
        for main in ["refs/heads/main", "refs/heads/master"] {
            assert_eq!(tag(main).unwrap(), "production/webapp/default/shop");
        }
        assert_eq!(tag("refs/heads/test").unwrap(), "test/webapp/default/shop");
        assert!(tag("refs/heads/production").unwrap_err().contains("`main`"));
        assert!(tag("refs/tags/v1").unwrap_err().contains("only branches"));
        assert!(tag("refs/heads/feature/x").unwrap_err().starts_with("stage is"));
    }
}
