//! Whatever the bytes, there is an answer, within bounds, and it can be printed.

use super::*;
use proptest::prelude::*;

/// Loads bytes as a file and prints what comes of it.
fn answer(bytes: &[u8]) -> String {
    let files = Files::new(&[]);
    fs::write(files.path("copal.yaml"), bytes).unwrap();
    match load(&files.path("copal.yaml"), &options()) {
        Ok(loaded) => format!("{loaded:?}"),
        Err(errors) => {
            assert!(!errors.problems().is_empty());
            errors.to_string()
        }
    }
}

/// Pieces that files are made of, to reach further than noise does.
const PIECES: [&str; 48] = [
    "clusters",
    "servers",
    "id",
    "address",
    "port",
    "http",
    "hosts",
    "web-apps",
    "dispatch",
    "load-balance",
    "cluster",
    "import",
    "server-default",
    "cluster-key",
    "triad",
    "regexp",
    "session-config",
    "cookie",
    ": ",
    ":",
    "- ",
    "\n",
    "\n  ",
    "\n    ",
    "\n      ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "\"",
    "'",
    "127.0.0.1",
    "&a ",
    "*a",
    "<<: ",
    "!!x ",
    "~",
    "${HOME}",
    "${",
    "|\n",
    ">-\n",
    "#",
    "\t",
    "---\n",
    "? ",
    "15s",
    "日本",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 512 } else { 4096 }))]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!answer(&bytes).is_empty());
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        prop_assert!(!answer(text.as_bytes()).is_empty());
    }

    #[test]
    fn anything_like_yaml(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..60)) {
        prop_assert!(!answer(pieces.concat().as_bytes()).is_empty());
    }

    /// A good file with one character changed: the commonest fault of all.
    #[test]
    fn a_slip_of_the_pen(at in 0..2000_usize, put in "[ -~\\n\\t]{0,2}") {
        let text = fs::read_to_string(Path::new(CONF).join("three-clusters.yaml")).unwrap();
        let at = at % text.len();
        prop_assume!(text.is_char_boundary(at) && text.is_char_boundary(at + 1));
        let slipped = format!("{}{put}{}", &text[..at], &text[at + 1..]);
        prop_assert!(!answer(slipped.as_bytes()).is_empty());
    }

    #[test]
    fn an_app_file_too(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..30)) {
        let files = Files::new(&[("app.yaml", &pieces.concat())]);
        let read = load_app_yaml(&files.path("app.yaml"), &options());
        let shown = read.map_or_else(|errors| errors.to_string(), |app| format!("{app:?}"));
        prop_assert!(!shown.is_empty());
    }
}

#[test]
fn a_file_of_faults_is_answered_in_bounds() {
    let text: String = (0..20_000).map(|n| format!("k{n}: 1\n")).collect();
    let told = answer(text.as_bytes());
    assert!(told.contains("… and 19901 more"), "{}", &told[told.len() - 200..]);
    assert!(told.len() < 100_000);
}

#[test]
fn many_imports_are_bounded() {
    let twice = |next: &str| format!("a: {{import: {next}}}\nb: {{import: {next}}}\nc: {{import: {next}}}\n");
    let files: Vec<(String, String)> =
        (0..12).map(|n| (format!("f{n}.yaml"), twice(&format!("f{}.yaml", n + 1)))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let files = Files::new(&files);
    fs::write(files.path("f12.yaml"), "d: 1\n").unwrap();
    let errors = files.load("f0.yaml", &options()).unwrap_err();
    assert!(errors.contains("more than 1000 imports"), "{}", &errors[..500.min(errors.len())]);
}

#[test]
fn a_long_line_is_shown_about_its_fault() {
    let text = format!("{{heartbeat-interval: 1s, {}colour: 1, x: 1{}}}", " ".repeat(3000), " ".repeat(900));
    let told = load_text(&text).unwrap_err();
    let line = told.lines().find(|line| line.contains("colour: 1")).unwrap();
    let carets = told.lines().find(|line| line.contains("^^^^^^")).unwrap();
    assert!(line.chars().count() < 140, "{line}");
    assert_eq!(
        line.chars().position(|it| it == 'c'),
        carets.chars().position(|it| it == '^'),
        "{line}\n{carets}"
    );
}

#[test]
fn secrets_are_not_shown() {
    let secret = "hunter2hunter2hunter2";
    for text in [
        format!("{{cluster-key: {secret}, x: 1}}"),
        format!("{{\"cluster_key\": \"{secret}\"}}"),
        format!("cluster-key: {secret}\n : : ["),
        format!("cluster-key: \"{secret}\n"),
        format!("cluster-key:\n  {secret}: [\n"),
        format!("cluster-key: |\n  {secret}\nx: 1"),
        format!("admin: {{users: [{{name: me, password: {secret}}}]}}"),
        format!("cluster-key: !!str {secret}"),
        format!("cluster-key: [{secret}]"),
        "cluster-key: hunter2hunter".to_owned(),
        "heartbeat-interval: ${DB_PASSWORD}".to_owned(),
        "clusters: [{id: '${DB_PASSWORD}/', workers: '${DB_PASSWORD}', session-cookie: 'a ${DB_PASSWORD}'}]"
            .to_owned(),
    ] {
        let mut options = options();
        options.environment.insert("DB_PASSWORD".to_owned(), secret.to_owned());
        let told = Files::new(&[("copal.yaml", &text)]).load("copal.yaml", &options).unwrap_err();
        assert!(!told.contains("hunter2"), "{text}\n{told}");
    }
}

/// Each of these is 256 KiB: a parser whose time grew with the square of the length would never end here.
#[test]
fn odd_files_are_answered() {
    let odd = |piece: &str| piece.repeat((1 << 18) / piece.len());
    for piece in [
        "[", "{", "- ", "? ", "a: ", "&a ", "*a ", "!x ", "\"", "'", "\n", "\t", ": ", "[a]: ", "{a: [",
        "|\n", "#", "a,",
    ] {
        assert!(!answer(odd(piece).as_bytes()).is_empty());
    }
}

/// The same for what we do with the tree.
#[test]
fn many_of_everything_is_answered() {
    let many = |piece: &dyn Fn(usize) -> String| (0..4_000).map(piece).collect::<Vec<_>>().join(", ");
    let clusters = many(&|n| format!("{{id: c{n}}}"));
    let rules = many(&|n| format!("{{load-balance: {{regexp: x, cluster: d{n}}}}}"));
    let keys = many(&|n| format!("k{n}: 1"));
    let empty = many(&|_| "{}".to_owned());
    let server = "{id: s, address: 127.0.0.1}";
    for text in [
        format!("clusters: [{clusters}]"),
        format!(
            "clusters: [{{id: c, servers: [{server}], hosts: [{{id: '', dispatch: [{rules}]}}]}}, {clusters}]"
        ),
        format!("triad: [{clusters}]"),
        format!("{{<<: [{empty}, {{{keys}}}], {keys}}}"),
    ] {
        assert!(load_text(&text).unwrap_err().contains("errors"), "{}", &text[..80]);
    }
}

#[test]
fn what_a_terminal_obeys_is_not_printed() {
    let told =
        load_text("\"a\\e[2J\\nb\": 1\nheartbeat-interval: \"1s\\e[31m\\n\"\nx\u{202e}y: 1").unwrap_err();
    assert!(told.contains(r"unknown key `a\u{1b}[2J\nb` in the file"), "{told}");
    assert!(!told.contains(['\u{1b}', '\u{202e}', '\r']), "{told}");
    let long = load_text(&format!("{}: 1", "k".repeat(900))).unwrap_err();
    assert!(long.len() < 2500, "{long}");
}
