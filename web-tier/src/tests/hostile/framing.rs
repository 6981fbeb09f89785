//! Where a request ends: `Content-Length` and `Transfer-Encoding`.

use super::{Case, Row, check, refused, served};

pub(super) fn rows() -> Vec<Row> {
    vec![both(), encodings(), lengths(), framed()]
}

/// A POST with these header lines and this body.
pub(super) fn post(headers: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n{body}")
}

fn both() -> Row {
    let cases = [
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "0\r\n\r\n"),
        post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("content-length:5\r\ntransfer-encoding:chunked\r\n", "0\r\n\r\n"),
        post("CONTENT-LENGTH: 5\r\nX: 1\r\nY: 2\r\nTRANSFER-ENCODING: CHUNKED\r\n", "0\r\n\r\n"),
        post("Content-Length: 5\r\nTransfer-Encoding:\tchunked\t\r\n", "0\r\n\r\n"),
        post("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", "hello"),
        post("Content-Length: 5\r\nTransfer-Encoding:\r\n", "hello"),
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        post("Content-Length: 5\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post(
            "Connection: Content-Length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        post(
            "Connection: Transfer-Encoding\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")
            .replace("HTTP/1.1", "HTTP/1.0"),
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n").replace("POST", "GET"),
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n").replace("POST", "HEAD"),
    ];
    let cases = cases.into_iter().map(|sent| refused(&[400, 501], sent)).collect();
    Row { title: "Content-Length and Transfer-Encoding together", cases }
}

fn encodings() -> Row {
    let values = [
        "",
        ",",
        "xchunked",
        "chunkedx",
        "chunk",
        "identity",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "gzip",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "chunked; a=b",
        "chunked chunked",
        "\"chunked\"",
        "'chunked'",
        "chunked\u{b}",
        "\u{b}chunked",
        "\u{c}chunked",
        "chunked\0",
        "chunked\u{1}",
        "chun\u{7f}ked",
        "\u{a0}chunked",
        "\u{c2}\u{a0}chunked",
        "chunked\u{85}",
        "chunked\r",
        "\u{ef}\u{bb}\u{bf}chunked",
        "\n chunked",
        "\r\n chunked",
        "\r\n\tchunked",
    ];
    let mut cases: Vec<Case> = values
        .iter()
        .map(|it| refused(&[400, 501], post(&format!("Transfer-Encoding: {it}\r\n"), "0\r\n\r\n")))
        .collect();
    let lines = [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\ntransfer-encoding: x\r\n",
        "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding\0: chunked\r\n",
        "\u{b}Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding\u{a0}: chunked\r\n",
        "Transfer Encoding: chunked\r\n",
        "Transfer-Encoding chunked\r\n",
    ];
    cases.extend(lines.iter().map(|it| refused(&[400, 501], post(it, "0\r\n\r\n"))));
    let old = post("Transfer-Encoding: chunked\r\n", "0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0");
    cases.push(refused(&[400, 501], old));
    Row { title: "Transfer-Encoding that is not exactly one `chunked`, or in HTTP/1.0", cases }
}

fn lengths() -> Row {
    let values = [
        "",
        " ",
        "+5",
        "-1",
        "-0",
        "0x5",
        "5 5",
        "5,5",
        "5, 5",
        "5, 6",
        "5,",
        ",5",
        "5;",
        "5.0",
        "5e0",
        "5_0",
        "five",
        "\"5\"",
        "5\u{b}",
        "\u{c}5",
        "5\0",
        "\u{d9}\u{a5}",
        "5\u{a0}",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999999999999999",
        "-18446744073709551611",
        "5\r",
        "\r\n 5",
        "\n5",
    ];
    let mut cases: Vec<Case> = values
        .iter()
        .map(|it| refused(&[400], post(&format!("Content-Length: {it}\r\n"), "hello")))
        .collect();
    let lines = [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 6\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: +5\r\n",
        "Content-Length: 5\r\nContent-Length:\r\n",
        "Content-Length: 5\r\ncontent-length: 44\r\n",
        "Content-Length : 5\r\n",
        "Content-Length\t: 5\r\n",
        " Content-Length: 5\r\n",
        "X: y\r\n Content-Length: 5\r\n",
        "Content-Length\0: 5\r\n",
        "Content-Length\u{b}: 5\r\n",
        "Content Length: 5\r\n",
        "Content-Length 5\r\n",
    ];
    cases.extend(lines.iter().map(|it| refused(&[400], post(it, "hello"))));
    Row { title: "Content-Length twice and different, or not one plain number", cases }
}

fn framed() -> Row {
    let cases = vec![
        served(post("Content-Length: 5\r\n", "hello"), &["content-length: 5", "hello"], &[]),
        served(post("Content-Length:5 \t\r\n", "hello"), &["content-length: 5", "hello"], &[]),
        served(post("Content-Length: 0\r\n", ""), &["content-length: 0"], &[]),
        served(post("Transfer-Encoding: Chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), &["hello"], &[]),
        served(post("Transfer-Encoding:chunked \t\r\n", "5\r\nhello\r\n0\r\n\r\n"), &["hello"], &[]),
        served(post("", ""), &["post / http/1.1"], &["transfer-encoding"]),
        served(post("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello"), &["hello"], &[]),
        served(
            post(
                "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            &["hello"],
            &[],
        ),
    ];
    Row { title: "Framing that is right", cases }
}

#[tokio::test]
async fn a_length_and_an_encoding_together() {
    check(both()).await;
}

#[tokio::test]
async fn encodings_that_are_not_chunked() {
    check(encodings()).await;
}

#[tokio::test]
async fn lengths_that_are_no_length() {
    check(lengths()).await;
}

#[tokio::test]
async fn framing_that_is_right() {
    check(framed()).await;
}
