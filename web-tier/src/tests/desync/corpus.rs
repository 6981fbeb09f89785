//! Reads the corpus: the small part of YAML that it uses, and the escapes that its own harness decodes a second time.

const FILES: [&str; 10] = [
    include_str!("corpus/acceptable.yaml"),
    include_str!("corpus/ambiguous.yaml"),
    include_str!("corpus/bad-header-characters.yaml"),
    include_str!("corpus/edge-cases.yaml"),
    include_str!("corpus/more-compliant-tests.yaml"),
    include_str!("corpus/real-life-test-cases.yaml"),
    include_str!("corpus/rfc-compliant.yaml"),
    include_str!("corpus/severe.yaml"),
    include_str!("corpus/single-case.yaml"),
    include_str!("corpus/uri-specific-test-cases.yaml"),
];

/// What the corpus thinks of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tier {
    Compliant,
    Acceptable,
    Ambiguous,
    Severe,
}

/// A request of the corpus.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) uri: String,
    pub(super) method: String,
    pub(super) version: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) tier: Tier,
}

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    FILES.iter().flat_map(|text| read(text)).collect()
}

fn read(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let (key, value) = content.split_once(':').unwrap_or((content, ""));
        if (indent, key) == (0, "- name") {
            cases.push(Case::new(scalar(value)));
            continue;
        }
        let case = cases.last_mut().expect("a case begins with its name");
        match (indent, key) {
            (2, "uri") => case.uri = twice(value),
            (2, "method") => case.method = twice(value),
            (2, "version") => case.version = twice(value),
            (4, "- name") => case.headers.push((twice(value), String::new())),
            (6, "value") => case.headers.last_mut().expect("a header has a name").1 = twice(value),
            (4, "tier") => case.tier = tier(value.trim()),
            (2, "headers" | "expected") | (6, "tier") | (4, "reason" | "required_message_items") => {}
            (6, item) if item.starts_with("- ") => {}
            _ => panic!("the corpus has a line of an unknown kind: {line:?}"),
        }
    }
    cases
}

impl Case {
    fn new(name: String) -> Self {
        let empty = String::new;
        Self {
            name,
            uri: empty(),
            method: empty(),
            version: empty(),
            headers: Vec::new(),
            tier: Tier::Severe,
        }
    }
}

fn tier(word: &str) -> Tier {
    match word {
        "Compliant" => Tier::Compliant,
        "Acceptable" => Tier::Acceptable,
        "Ambiguous" => Tier::Ambiguous,
        "Severe" => Tier::Severe,
        _ => panic!("the corpus has a tier of an unknown kind: {word:?}"),
    }
}

/// A value of YAML: plain, in single or in double quotes.
fn scalar(text: &str) -> String {
    let text = text.trim();
    let inside = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(inside) = inside('"') {
        return unescape(inside);
    }
    match inside('\'') {
        Some(inside) => inside.replace("''", "'"),
        None => text.split(" #").next().unwrap_or_default().trim_end().to_owned(),
    }
}

/// A value, decoded as the corpus's own harness does: once more after YAML has.
fn twice(text: &str) -> String {
    unescape(&scalar(text))
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(first) = rest.next() {
        out.push(match (first, if first == '\\' { rest.next() } else { None }) {
            ('\\', Some('x')) => {
                let digits: String = rest.by_ref().take(2).collect();
                char::from(u8::from_str_radix(&digits, 16).expect("an escape has two digits"))
            }
            ('\\', Some('n')) => '\n',
            ('\\', Some('r')) => '\r',
            ('\\', Some('t')) => '\t',
            ('\\', Some('b')) => '\u{8}',
            ('\\', Some('f')) => '\u{c}',
            ('\\', Some(other)) => other,
            (plain, _) => plain,
        });
    }
    out
}

#[test]
fn the_corpus_is_read_whole() {
    let cases = cases();
    let count = |tier| cases.iter().filter(|case| case.tier == tier).count();
    let tiers = [Tier::Compliant, Tier::Acceptable, Tier::Ambiguous, Tier::Severe].map(count);
    assert_eq!((cases.len(), tiers), (159, [28, 15, 58, 58]));
    assert!(cases.iter().all(|case| !case.method.is_empty()), "each has a method");
    let find = |name: &str| cases.iter().find(|case| case.name == name).unwrap();
    let tab = find("Transfer-Encoding with a trailing tab in name");
    assert_eq!(tab.headers[0].0, "Transfer-Encoding\t");
    assert_eq!(find(r"\r in URI").uri, "/endpoint_a\rHTTP/1.1");
    assert_eq!(find(r"Transfer-Encoding: \xa0chunked").headers[0].1, "\u{a0}chunked");
}
