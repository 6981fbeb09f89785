//! Chunked bodies.

use super::{Case, Row, broken, check, framing::post, served};

pub(super) fn rows() -> Vec<Row> {
    vec![sizes(), extensions(), ends(), trailers(), valid()]
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn row(title: &'static str, bodies: &[String]) -> Row {
    Row { title, cases: bodies.iter().map(|body| broken(&[400], chunked(body))).collect() }
}

fn sizes() -> Row {
    let sizes = [
        "",
        " ",
        "0x5",
        "0X5",
        "x5",
        "5_",
        "_5",
        "0_5",
        "+5",
        "-5",
        "-0",
        "5 ",
        " 5",
        "\t5",
        "5\t",
        "5h",
        "g",
        "5 5",
        "5,5",
        "5.",
        "\"5\"",
        "\u{b}5",
        "5\0",
        "\u{0}5",
        "5\u{a0}",
        "5\r",
        "FFFFFFFFFFFFFFFFF",
        "10000000000000000",
        "10000000000000005",
        "100000000000000000000000000000005",
    ];
    let bodies: Vec<_> = sizes.iter().map(|size| format!("{size}\r\nhello\r\n0\r\n\r\n")).collect();
    let mut row = row("Chunk sizes that are no plain hexadecimal number", &bodies);
    // These fit into 64 bits, though no body does: refused at once, or when no more of it comes.
    for size in ["8000000000000000", "FFFFFFFFFFFFFFFD", "FFFFFFFFFFFFFFFF"] {
        row.cases.push(broken(&[400, 408, 413], chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n"))));
    }
    row
}

fn extensions() -> Row {
    let long = "e".repeat(20_000);
    let many = format!("1;{}\r\nx\r\n", "e".repeat(1000)).repeat(300);
    let bodies = [
        format!("5;{long}\r\nhello\r\n0\r\n\r\n"),
        format!("5;a={long}\r\nhello\r\n0\r\n\r\n"),
        format!("5\r\nhello\r\n0;{long}\r\n\r\n"),
        format!("{many}0\r\n\r\n"),
        "5;a\nb\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5;a\rb\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5;a\0\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5;a\r\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5;\n\r\nhello\r\n0\r\n\r\n".to_owned(),
    ];
    let odd = [
        ";",
        "; ",
        ";;a",
        ";a;",
        ";=b",
        ";a=",
        ";a=;b",
        ";a=b=c",
        ";a b",
        ";a=b c",
        ";a ",
        ";a=b ",
        ";bad[=x",
        ";a=[b",
        ";a=\"b",
        ";a=\"b\\\"",
        ";a=\"b\"c",
        ";\"a\"=b",
        ";\u{e4}",
        " ;a=b",
        "\t;a",
    ];
    let odd = odd.iter().map(|it| format!("5{it}\r\nhello\r\n0\r\n\r\n"));
    let bodies: Vec<_> = bodies.into_iter().chain(odd).collect();
    row("Chunk extensions over the limit, with NUL, CR or LF in them, or off the grammar", &bodies)
}

fn ends() -> Row {
    let bodies = [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\r\r\n0\r\n\r\n",
        "5\r\nhello\n\r0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "6\r\nhello\r\n0\r\n\r\n",
        "5\r\n\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n",
        "0\r\n",
        "0\r\n\r",
        "0\r\nX",
        "0",
        "0\n\n",
        "0\r\r\n\r\n",
    ];
    row("Chunks that do not end with CRLF, or have no end", &bodies.map(str::to_owned))
}

fn trailers() -> Row {
    let lines = [
        "no colon\r\n",
        " folded: 1\r\n",
        "A: 1\r\n folded\r\n",
        "A : 1\r\n",
        ": 1\r\n",
        "A: 1\nB: 2\r\n",
        "A: 1\rB: 2\r\n",
        "A: \0\r\n",
        "A\u{1}: 1\r\n",
        "A B: 1\r\n",
    ];
    let mut cases: Vec<Case> =
        lines.iter().map(|it| broken(&[400], chunked(&format!("5\r\nhello\r\n0\r\n{it}\r\n")))).collect();
    let big = format!("5\r\nhello\r\n0\r\nA: {}\r\n\r\n", "a".repeat(40_000));
    let many = format!("5\r\nhello\r\n0\r\n{}\r\n", "A: 1\r\n".repeat(1001));
    cases.extend([broken(&[400, 431], chunked(&big)), broken(&[400, 431], chunked(&many))]);
    Row { title: "Trailers that are no header lines, or over the limit", cases }
}

fn valid() -> Row {
    let cases = [
        "5\r\nhello\r\n0\r\n\r\n",
        "000005\r\nhello\r\n000\r\n\r\n",
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5;a=\"b c\";d\r\nhello\r\n0;e\r\n\r\n",
        "5; x = \"a=b\\\" ;\" ; y;z=1\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 7\r\nTransfer-Encoding: x\r\nHost: evil\r\n\r\n",
    ];
    let served = |body: &&str| served(chunked(body), &["hello"], &["evil", "a=b"]);
    Row { title: "Chunks that are right", cases: cases.iter().map(served).collect() }
}

#[tokio::test]
async fn sizes_that_are_no_size() {
    check(sizes()).await;
}

#[tokio::test]
async fn extensions_that_are_none() {
    check(extensions()).await;
}

#[tokio::test]
async fn ends_that_are_none() {
    check(ends()).await;
}

#[tokio::test]
async fn trailers_that_are_none() {
    check(trailers()).await;
}

#[tokio::test]
async fn chunks_that_are_right() {
    check(valid()).await;
}
