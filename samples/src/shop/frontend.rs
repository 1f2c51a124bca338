//! Frontend: what customers see; keeps nothing itself.

use crate::http::{Backend, Request, Response};

const PRODUCTS: [&str; 6] = ["teapot", "candle", "mug", "lamp", "scarf", "watch"];

pub(crate) struct Frontend {
    pub(crate) cart: Backend,
    pub(crate) checkout: Backend,
}

impl Frontend {
    pub(crate) fn answer(&self, request: &Request) -> Response {
        let path = request.path.as_str();
        if request.method == "GET" && path == "/" {
            return Response::text(200, PRODUCTS.join("\n"));
        }
        if path.starts_with("/cart/") {
            return pass_on(self.cart.call(&request.method, path, &request.body), "cart");
        }
        match path.strip_prefix("/checkout/") {
            Some(user) if request.method == "POST" => self.buy(user),
            _ => Response::text(404, "no such page"),
        }
    }

    fn buy(&self, user: &str) -> Response {
        let cart = format!("/cart/{user}");
        let items = match self.cart.call("GET", &cart, b"") {
            Ok(answer) if answer.body.is_empty() => return Response::text(400, "the cart is empty"),
            Ok(answer) => answer.body,
            Err(error) => return Response::text(502, format!("cart: {error}")),
        };
        let order = [user.as_bytes(), b":", &items].concat();
        let answer = pass_on(self.checkout.call("POST", "/orders", &order), "checkout");
        if answer.is_success()
            && let Err(error) = self.cart.call("DELETE", &cart, b"")
        {
            super::server::complain("frontend", "emptying a cart", &error);
        }
        answer
    }
}

fn pass_on(result: std::io::Result<Response>, role: &str) -> Response {
    match result {
        Ok(answer) => Response { close: false, ..answer },
        Err(error) => Response::text(502, format!("{role} is not available: {error}")),
    }
}
