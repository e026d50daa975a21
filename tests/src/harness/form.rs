//! The forms of a page without script, read from our own plain HTML.

use url::form_urlencoded;

/// A form: where it goes, what it carries, and its buttons.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Form {
    pub(crate) action: String,
    hidden: Vec<(String, String)>,
    buttons: Vec<Button>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Button {
    name: String,
    value: String,
    label: String,
}

impl Form {
    /// Every form of a page.
    pub(crate) fn all(html: &str) -> Vec<Self> {
        let forms = html.split("<form").skip(1);
        forms
            .filter_map(|rest| Self::read(rest.split("</form>").next()?))
            .collect()
    }

    fn read(text: &str) -> Option<Self> {
        let (tag, inside) = text.split_once('>')?;
        let inputs = inside.split("<input").skip(1).filter_map(|rest| {
            let tag = rest.split('>').next()?;
            Some((attribute(tag, "name")?, attribute(tag, "value")?))
        });
        let buttons = inside.split("<button").skip(1).filter_map(|rest| {
            let (tag, rest) = rest.split_once('>')?;
            let label = rest.split("</button>").next()?;
            Some(Button {
                name: attribute(tag, "name").unwrap_or_default(),
                value: attribute(tag, "value").unwrap_or_default(),
                label: words(label),
            })
        });
        Some(Self {
            // Without one, the form goes to the page's own address.
            action: attribute(tag, "action").unwrap_or_default(),
            hidden: inputs.collect(),
            buttons: buttons.collect(),
        })
    }

    /// What is sent when the first button is pressed whose label has `part` among its words.
    pub(crate) fn press(&self, part: &str) -> Option<String> {
        let has = |label: &str| label == part || label.split(' ').any(|word| word == part);
        let button = self.buttons.iter().find(|button| has(&button.label))?;
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(&self.hidden);
        if !button.name.is_empty() {
            body.append_pair(&button.name, &button.value);
        }
        Some(body.finish())
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    rest.split('"').next().map(unescaped)
}

/// The text between tags.
fn words(html: &str) -> String {
    let mut text = String::new();
    for piece in html.split('<') {
        let outside = piece.split_once('>').map_or(piece, |(_, outside)| outside);
        text.push(' ');
        text.push_str(&unescaped(outside));
    }
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Resolves the references that our templates make: decimal ones, and none by name.
fn unescaped(text: &str) -> String {
    let mut pieces = text.split("&#");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (number, rest) = piece.split_once(';').unwrap_or(("", piece));
        plain.extend(number.parse().ok().and_then(char::from_u32));
        plain.push_str(rest);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_and_pressed() {
        let html = r#"<form method="post" action="/a?b&#38;c"><input type="hidden" name="request" value="x=1&#38;y=&#34;">
            <button name="identity" value="7"><strong>Al &#60;x&#62;</strong> al@x.test<span>Org</span></button>
            <button>Go</button></form><form method="post" action="/other"><button>Sign out</button></form>"#;
        let forms = Form::all(html);
        assert_eq!((forms.len(), forms[0].action.as_str()), (2, "/a?b&c"));
        assert_eq!(
            forms[0].press("al@x.test").unwrap(),
            "request=x%3D1%26y%3D%22&identity=7"
        );
        assert_eq!(forms[0].press("Go").unwrap(), "request=x%3D1%26y%3D%22");
        assert_eq!(forms[1].press("Sign out").unwrap(), "");
        assert_eq!(forms[1].press("Go"), None);
    }
}
