//! The examples of RFC 7515 appendix A and RFC 8037 appendix A.

use super::parse;
use crate::{Claims, Keys, Refused, Rules, verify};
use serde_json::json;

/// `{"iss":"joe", "exp":1300819380, "http://example.com/is_root":true}`, with the RFC's white space.
const PAYLOAD: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// The second before it expires.
const IN_TIME: u64 = 1_300_819_379;

fn check(header: &str, signature: &str, keys: &Keys, now_s: u64) -> Result<Claims, Refused> {
    verify(format!("{header}.{PAYLOAD}.{signature}").as_bytes(), keys, &Rules::default(), now_s)
}

fn believed_until_it_expires(header: &str, signature: &str, keys: &Keys) {
    let claims = check(header, signature, keys, IN_TIME).unwrap();
    assert_eq!(claims.text("iss").as_deref(), Some("joe"));
    assert_eq!(claims.text("http://example.com/is_root").as_deref(), Some("true"));
    assert_eq!(check(header, signature, keys, IN_TIME + 1), Err(Refused::Expired));
}

#[test]
fn rfc_7515_a_1_hs256() {
    let k = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let keys = parse(&json!({"keys": [{"kty": "oct", "k": k}]}));
    let header = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9";
    believed_until_it_expires(header, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", &keys);
}

#[test]
fn rfc_7515_a_2_rs256() {
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd\
             2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEM\
             a2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAc\
             DTW9gb54h4FRWyuXpoQ";
    let keys = parse(&json!({"keys": [{"kty": "RSA", "n": n, "e": "AQAB"}]}));
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9\
                     uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB\
                     _eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rq\
                     Vt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    believed_until_it_expires("eyJhbGciOiJSUzI1NiJ9", signature, &keys);
}

#[test]
fn rfc_7515_a_3_es256() {
    let keys = parse(&json!({"keys": [{"kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}));
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    believed_until_it_expires("eyJhbGciOiJFUzI1NiJ9", signature, &keys);
}

#[test]
fn rfc_7515_a_5_unsecured_is_refused() {
    let keys = Keys::secret(&[7; 32]).unwrap();
    assert_eq!(check("eyJhbGciOiJub25lIn0", "", &keys, IN_TIME), Err(Refused::Algorithm));
}

#[test]
fn rfc_8037_a_4_eddsa_is_signed_but_no_claims() {
    let keys = parse(
        &json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}),
    );
    let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let of = |signature: &str| {
        verify(format!("{message}.{signature}").as_bytes(), &keys, &Rules::default(), IN_TIME)
    };
    // The payload is a sentence: that it is looked at says that the signature was valid.
    assert_eq!(of(signature), Err(Refused::Malformed));
    assert_eq!(of(&signature.replace('h', "i")), Err(Refused::Signature));
}
