//! The two shapes in which a BIG-IP refuses: that of the configuration daemon, and that of the REST framework.

use deploy_testkit::stand_in::Answer;
use serde_json::json;

/// The whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Refusal(pub(crate) Answer);

/// Begins with the identifier of a message.
pub(crate) fn daemon(status: u16, id: &str, text: &str) -> Refusal {
    let body = json!({ "code": status, "message": format!("{id}: {text}"), "errorStack": [], "apiError": 3 });
    Refusal(Answer::new(status).with_json(&body))
}

/// Has no identifier.
pub(crate) fn framework(status: u16, text: &str) -> Refusal {
    let body = json!({
        "code": status, "message": text, "referer": "127.0.0.1", "restOperationId": 6_611_433, "kind": ":resterrorresponse",
    });
    Refusal(Answer::new(status).with_json(&body))
}

impl Refusal {
    /// As a commit passes it on.
    pub(crate) fn of_transaction(self) -> Self {
        let mut body: serde_json::Value = serde_json::from_slice(&self.0.body).unwrap();
        body["message"] = format!("transaction failed:{}", body["message"].as_str().unwrap()).into();
        Self(Answer::new(self.0.status).with_json(&body))
    }
}
