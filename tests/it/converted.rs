//! Translated files, started: requests go where nginx and HAProxy would send them. Both tables were held against the two themselves.

use crate::cluster::{Address, Process, copal};
use std::{collections::BTreeMap, fs, net::Ipv4Addr, path::Path, process::Command};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What is asked for, and the status with the backend or the `Location`.
type Row = (&'static str, &'static str, &'static str);

/// Backends that answer with their names.
async fn backends(names: &[&'static str], tasks: &mut JoinSet<()>) -> BTreeMap<&'static str, u16> {
    let mut ports = BTreeMap::new();
    for name in names.iter().copied() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        ports.insert(name, listener.local_addr().unwrap().port());
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    head.push(byte);
                }
                let answer = format!("HTTP/1.0 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
    }
    ports
}

/// `200 shop`, `301 https://…`, `404`.
async fn ask(address: &str, host: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    let location = head
        .lines()
        .find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("location")));
    match (status, location) {
        ("200", _) => format!("200 {}", body.trim()),
        (status, Some((_, location))) => format!("{status} {location}"),
        (status, None) => status.to_owned(),
    }
}

/// Translates a file and starts a server with it.
fn start(folder: &Path, name: &str, text: &str, ip: Ipv4Addr) -> Process {
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    let output = Command::new(copal()).arg("convert").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let yaml = String::from_utf8(output.stdout).unwrap();
    let yaml = yaml.replacen("address: 127.0.0.1\n", &format!("address: {ip}\n"), 1);
    let yaml = format!("data-dir: {}\n{yaml}", folder.join("data").display());
    let file = folder.join("copal.yaml");
    fs::write(&file, yaml).unwrap();
    Process::start(&copal(), &file, "web-a", &folder.join("web-a.log"), None)
}

async fn holds(ip: Ipv4Addr, rows: &[Row]) {
    for (host, path, expected) in rows {
        let (name, port) = host.split_once(':').unwrap_or((host, "8080"));
        let found = ask(&format!("{ip}:{port}"), name, path).await;
        assert_eq!(found, *expected, "http://{host}{path}");
    }
}

const NGINX: &str = r#"
http {
    server {
        listen IP:8080 default_server;
        server_name www.example.com;
        location = / { return 302 /home; }
        location / { proxy_pass http://shop; proxy_set_header Host $host; }
        location /api/ { proxy_pass http://api; }
        location /api/old { return 410; }
        location ^~ /api/raw/ { proxy_pass http://raw; }
        location ~ \.(css|png)$ { proxy_pass http://files; }
        location ~* \.PDF$ { proxy_pass http://raw; }
        location /private { deny all; proxy_pass http://shop; }
        location /files { root FOLDER; try_files $uri =404; }
        rewrite ^/moved/(.*)$ /new/$1 permanent;
        rewrite ^/alias/(.*)$ /api/$1 last;
    }
    server {
        listen IP:8080;
        server_name blog.example.com *.blog.example.com;
        location / { proxy_pass http://blog; }
    }
    server {
        listen IP:8081;
        return 301 https://$host$request_uri;
    }
    upstream shop { server 127.0.0.1:PORT_shop; }
    upstream api { server 127.0.0.1:PORT_api; }
    upstream raw { server 127.0.0.1:PORT_raw; }
    upstream files { server 127.0.0.1:PORT_files; }
    upstream blog { server 127.0.0.1:PORT_blog; }
}
"#;

const NGINX_ROWS: [Row; 21] = [
    ("www.example.com", "/", "302 /home"),
    ("www.example.com", "/cart", "200 shop"),
    ("other.example.com", "/cart?x=1", "200 shop"),
    ("www.example.com", "/api/a", "200 api"),
    ("www.example.com", "/api?x=1", "301 /api/?x=1"),
    ("www.example.com", "/api/old/1", "410"),
    ("www.example.com", "/api/raw/x.css", "200 raw"),
    ("www.example.com", "/api/x.css", "200 files"),
    ("www.example.com", "/x.CSS", "200 shop"),
    ("www.example.com", "/x.Pdf", "200 raw"),
    ("www.example.com", "/%61pi/a", "200 api"),
    ("www.example.com", "/x/../api//a", "200 api"),
    ("www.example.com", "/private", "403"),
    ("www.example.com", "/privateer", "403"),
    ("www.example.com", "/files/a.txt", "200 a file"),
    ("www.example.com", "/files/b.txt", "404"),
    ("www.example.com", "/alias/a", "200 api"),
    ("blog.example.com", "/api/a", "200 blog"),
    ("my.blog.example.com", "/x.css", "200 blog"),
    ("xblog.example.com", "/x.css", "200 files"),
    ("blog.example.com:8081", "/a?b=c", "301 https://blog.example.com/a?b=c"),
];

const HAPROXY: &str = "
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s

frontend plain
    bind IP:8081
    redirect scheme https code 301 unless { ssl_fc }

frontend public
    bind IP:8080
    acl is_api path_beg /api/ /rpc/
    acl is_file path_end -i .css .png
    acl is_file path_dir assets
    acl blog hdr(host) -i blog.example.com
    acl inside src 127.0.0.0/8
    acl is_post method POST
    http-request deny if { path_reg ^/admin(/|$) } !inside
    http-request deny deny_status 410 if { path_beg /old }
    redirect location /home code 302 if { path / }
    use_backend blog if blog !is_post || blog { url_param(post) -m found }
    use_backend raw if is_api { hdr(x-none) 1 } or { path_sub raw }
    use_backend api if is_api
    use_backend files if is_file
    default_backend shop

backend shop
    balance roundrobin
    server a 127.0.0.1:PORT_shop weight 10
    server b 127.0.0.1:PORT_shop weight 20
backend api
    http-request deny if { path_end .php }
    server a 127.0.0.1:PORT_api
backend raw
    server a 127.0.0.1:PORT_raw
backend files
    server a 127.0.0.1:PORT_files
backend blog
    server a 127.0.0.1:PORT_blog
";

const HAPROXY_ROWS: [Row; 15] = [
    ("www.example.com", "/", "302 /home"),
    ("www.example.com", "/cart", "200 shop"),
    ("www.example.com", "/api/a", "200 api"),
    ("www.example.com", "/rpc/a", "200 api"),
    ("www.example.com", "/rpc/a.php", "403"),
    ("www.example.com", "/api", "200 shop"),
    ("www.example.com", "/x.CSS", "200 files"),
    ("www.example.com", "/a/assets/b", "200 files"),
    ("www.example.com", "/a/raw/b", "200 raw"),
    ("www.example.com", "/admin/", "200 shop"),
    ("www.example.com", "/old/a", "410"),
    ("Blog.example.com", "/api/a", "200 blog"),
    ("blog.example.com", "/x.css?post=1", "200 blog"),
    ("xblog.example.com", "/x.css", "200 files"),
    ("www.example.com:8081", "/a?b=c", "301 https://www.example.com/a?b=c"),
];

async fn as_the_peer_does(name: &str, text: &str, rows: &[Row]) {
    let (address, folder, mut tasks) = (Address::lease(), tempfile::tempdir().unwrap(), JoinSet::new());
    let ports = backends(&["shop", "api", "raw", "files", "blog"], &mut tasks).await;
    fs::create_dir(folder.path().join("files")).unwrap();
    fs::write(folder.path().join("files/a.txt"), "a file").unwrap();
    let text =
        text.replace("IP", &address.ip().to_string()).replace("FOLDER", &folder.path().display().to_string());
    let text = ports
        .iter()
        .fold(text, |text, (name, port)| text.replace(&format!("PORT_{name}"), &port.to_string()));
    let mut process = start(folder.path(), name, &text, address.ip());
    process.ready().await;
    holds(address.ip(), rows).await;
    assert_eq!(process.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_translated_file_of_nginx_sends_requests_where_nginx_does() {
    as_the_peer_does("nginx.conf", NGINX, &NGINX_ROWS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_translated_file_of_haproxy_sends_requests_where_haproxy_does() {
    as_the_peer_does("haproxy.cfg", HAPROXY, &HAPROXY_ROWS).await;
}
