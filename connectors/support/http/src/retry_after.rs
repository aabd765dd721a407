//! `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime};

use deploy_core::Retry;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// When to try again, by the headers of an answer that came in at `now`. A date is compared with the remote's own clock,
/// where the answer says what that shows.
pub(crate) fn retry(headers: &HeaderMap, now: SystemTime) -> Retry {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let Some(value) = text(RETRY_AFTER) else { return Retry::Later };
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More seconds than fit are as good as forever.
        return Retry::After(Duration::from_secs(value.parse().unwrap_or(u32::MAX.into())));
    }
    let Ok(then) = httpdate::parse_http_date(value) else { return Retry::Later };
    let now = text(DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
    Retry::After(then.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Wed, 21 Oct 2015 07:28:00 GMT`.
    const THEN: Duration = Duration::from_secs(1_445_412_480);

    fn retry_after(value: &str, date: Option<&str>) -> Retry {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry(&headers, SystemTime::UNIX_EPOCH + THEN)
    }

    #[test]
    fn p8_retry_after_is_read_in_both_forms() {
        let after = |seconds| Retry::After(Duration::from_secs(seconds));
        assert_eq!(retry_after("120", None), after(120));
        assert_eq!(retry_after("0", None), after(0));
        assert_eq!(retry_after("99999999999999999999999", None), after(u32::MAX.into()));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:30 GMT", None), after(30));
        assert_eq!(retry_after("Wednesday, 21-Oct-15 07:28:30 GMT", None), after(30), "RFC 850");
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:27:00 GMT", None), after(0), "in the past");
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:30 GMT", Some("Wed, 21 Oct 2015 07:28:10 GMT")), after(20));
        for useless in ["", "soon", "-1", "1.5", "12 Oct"] {
            assert_eq!(retry_after(useless, None), Retry::Later, "{useless}");
        }
        assert_eq!(retry(&HeaderMap::new(), SystemTime::UNIX_EPOCH), Retry::Later);
    }
}
