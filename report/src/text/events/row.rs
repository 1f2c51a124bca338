//! A call as the row of a table.

use super::Events;
use crate::text::decode::{self, Call, address};
use ctrace_format::{Object, Syscall};
use std::borrow::Cow;

/// A call whose parts are worked out one by one, as they are asked for.
pub struct Row<'a>(Call<'a>);

impl Events<'_> {
    /// The call as a row.
    pub fn row<'b>(&'b self, call: &'b Syscall) -> Row<'b> {
        Row(self.call(call))
    }
}

impl Row<'_> {
    /// Its name.
    pub fn name(&self) -> Cow<'static, str> {
        match self.0.name {
            "" => Cow::Owned(format!("syscall_{}", self.0.event.sysno.nr)),
            name => Cow::Borrowed(name),
        }
    }

    /// Its arguments as in a line of `ctrace events`.
    pub fn args(&self) -> String {
        let mut text = String::with_capacity(64);
        for (index, (_, arg)) in self.0.args().iter().enumerate() {
            if index > 0 {
                text.push_str(", ");
            }
            text.push_str(&arg.text());
        }
        text
    }

    /// The number of the descriptor that it is about, or that it made.
    pub fn fd(&self) -> Option<i64> {
        self.0.event.object.and_then(|_| self.0.fd())
    }

    /// The object behind the descriptor.
    pub fn object(&self) -> Option<String> {
        self.0.event.object.map(|object| self.0.object(object))
    }

    /// The other end of the socket behind the descriptor, or the one that the call names.
    pub fn peer(&self) -> Option<String> {
        let named = self.0.event.details.iter().find_map(|detail| match detail {
            ctrace_format::Detail::Addr { addr, .. } => Some(address(addr)),
            _ => None,
        });
        named.or_else(|| {
            let object = self.0.trace.object(self.0.event.object?);
            let Object::Socket { peer, .. } = object else { return None };
            peer.as_ref().or_else(|| self.0.ends.of(object).map(|ends| &ends.1)).map(address)
        })
    }

    /// The path that it names or works on.
    pub fn path(&self) -> Option<String> {
        self.0.paths().next().map(decode::json_text)
    }
}

/// The name of an errno.
pub fn errno(number: u32) -> String {
    decode::errno_name(number)
}

/// A byte string of the trace as JSON and tables have it: a byte that is no UTF-8 becomes U+10FF00 + byte.
pub fn name_in_json(bytes: &[u8]) -> String {
    decode::json_text(bytes)
}
