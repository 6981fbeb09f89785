vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "17700"; }
sub vcl_recv {
    if (req.url ~ "^/plain/") { return (pass); }
    return (hash);
}
sub vcl_backend_response {
    if (beresp.http.Content-Type ~ "text/plain") { set beresp.do_gzip = true; }
}
