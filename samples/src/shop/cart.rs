//! Cart: what each customer wants to buy, in memory.

use crate::http::{Request, Response};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

#[derive(Default)]
pub(crate) struct Cart {
    items: Mutex<HashMap<String, Vec<String>>>,
}

impl Cart {
    pub(crate) fn answer(&self, request: &Request) -> Response {
        let Some(user) = request.path.strip_prefix("/cart/") else {
            return Response::text(404, "no such page");
        };
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        match request.method.as_str() {
            "GET" => Response::text(200, items.get(user).map_or_else(String::new, |i| i.join(","))),
            "POST" => {
                items
                    .entry(user.to_owned())
                    .or_default()
                    .push(String::from_utf8_lossy(&request.body).into_owned());
                Response::text(200, "added")
            }
            "DELETE" => {
                items.remove(user);
                Response::text(200, "emptied")
            }
            _ => Response::text(400, "the cart knows GET, POST and DELETE"),
        }
    }
}
