//! A request without a body, kept until its answer begins, so that it can be sent again when its server dies.
//!
//! hyper takes the request and does not give it back once it is written, and a copy of a `HeaderMap` is two allocations; this
//! copies names and values (which share their bytes) into lists that a worker uses over and over. It is the client's request
//! that is kept, before the proxy's own headers come: they are made anew.

use crate::body::RequestBody;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use std::{cell::RefCell, rc::Rc};

/// Lists kept for the next requests; more at once are allocated and freed again.
const SHELF_MAX: usize = 256;

type Headers = Vec<(HeaderName, HeaderValue)>;

/// A worker's empty lists.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Rc<RefCell<Vec<Headers>>>);

/// A copy of a request's head.
#[derive(Debug)]
pub(crate) struct Saved {
    method: Method,
    uri: Uri,
    version: Version,
    headers: Headers,
    shelf: Rc<RefCell<Vec<Headers>>>,
}

impl Shelf {
    /// A copy of `request`'s head.
    pub(crate) fn save<B>(&self, request: &Request<B>) -> Saved {
        let mut headers = self.0.borrow_mut().pop().unwrap_or_default();
        headers.extend(request.headers().iter().map(|(name, value)| (name.clone(), value.clone())));
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Saved { method, uri, version: request.version(), headers, shelf: self.0.clone() }
    }
}

impl Saved {
    /// The request's method.
    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    /// The request once more.
    pub(crate) fn request(&self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        *request.headers_mut() = headers;
        request
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        let mut shelf = self.shelf.borrow_mut();
        if shelf.len() < SHELF_MAX {
            self.headers.clear();
            shelf.push(std::mem::take(&mut self.headers));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_has_every_header_in_order() {
        let mut request = Request::new(());
        *request.method_mut() = Method::DELETE;
        *request.uri_mut() = Uri::from_static("/a?b");
        *request.version_mut() = Version::HTTP_10;
        for value in ["1", "2"] {
            request.headers_mut().append("cookie", HeaderValue::from_static(value));
        }
        request.headers_mut().append("host", HeaderValue::from_static("h"));
        let shelf = Shelf::default();
        for _ in 0..2 {
            let saved = shelf.save(&request);
            let again = saved.request();
            assert_eq!((again.method(), again.uri()), (request.method(), request.uri()));
            assert_eq!((again.headers(), again.version()), (request.headers(), request.version()));
        }
        assert_eq!(shelf.0.borrow().len(), 1);
    }
}
