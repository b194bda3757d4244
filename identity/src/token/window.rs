//! Validity period of a token from its dates and its issuer's rules. Reads no clock.

use tensorgate_policy::policy::Issuer;

use super::{EXPIRED, NOT_YET};
use crate::json::{Json, Object};

/// Maximum date: 9999-12-31T23:59:59Z. Doubles are exact up to here.
const MAX_DATE_UNIX_S: f64 = 253_402_300_799.0;

/// Validity period, in Unix seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) from: f64,
    pub(super) until: f64,
}

/// Validity period of a token, if it includes `now`.
pub(super) fn window(claims: &Object, issuer: &Issuer, now: f64) -> Result<Window, &'static str> {
    let skew = issuer.clock_skew_s() as f64;
    let longest = issuer.max_lifetime_s() as f64;
    let date = |name: &str| match claims.get(name) {
        // `null` states no date, as some issuers write it.
        None | Some(Json::Other) => Ok(None),
        Some(Json::Integer(seconds)) if *seconds as f64 <= MAX_DATE_UNIX_S => {
            Ok(Some(*seconds as f64))
        }
        Some(Json::Float(seconds)) if (0.0..=MAX_DATE_UNIX_S).contains(seconds) => {
            Ok(Some(*seconds))
        }
        Some(_) => Err("token has a date that is not a number, or out of range"),
    };
    let expires = date("exp")?.ok_or("token never expires")?;
    let not_before = date("nbf")?;
    let issued = date("iat")?;
    if now >= expires + skew {
        return Err(EXPIRED);
    }
    if let Some(issued) = issued {
        if issued > now + skew {
            return Err("token was issued in the future");
        }
        if expires <= issued {
            return Err("token expires before it was issued");
        }
    }
    // Without `iat`, the remaining lifetime counts.
    if expires - issued.unwrap_or(now) > longest {
        return Err("token's lifetime is longer than the issuer's max_lifetime_s");
    }
    let from = not_before.unwrap_or(0.0) - skew;
    if now < from {
        return Err(NOT_YET);
    }
    Ok(Window {
        from: from.max(issued.unwrap_or(0.0) - skew),
        until: expires + skew,
    })
}
