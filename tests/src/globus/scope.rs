//! The scope grammar of Globus: `scope[*dependency1 dependency2[…]]`.
//!
//! `*` marks an optional scope, one that can be withdrawn on its own. Brackets follow a scope
//! without a space and are not empty; names contain none of `[]*` and no space.

/// A scope that was asked for, with what it was asked for to depend on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ScopeTree {
    pub(crate) scope: String,
    pub(crate) optional: bool,
    pub(crate) dependencies: Vec<Self>,
}

/// Why a scope parameter cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("failed to parse the scopes: {0}")]
pub(crate) struct ScopeSyntax(&'static str);

/// Reads a scope parameter.
///
/// # Errors
/// [`ScopeSyntax`] names the broken rule.
pub(crate) fn parse(text: &str) -> Result<Vec<ScopeTree>, ScopeSyntax> {
    let mut parser = Parser {
        rest: text,
        depth: 0,
    };
    let trees = parser.list()?;
    if parser.rest.is_empty() {
        Ok(trees)
    } else {
        Err(ScopeSyntax("']' without '['"))
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    /// Scopes up to the end, or to a `]` that is left for the caller.
    fn list(&mut self) -> Result<Vec<ScopeTree>, ScopeSyntax> {
        let mut trees = Vec::new();
        loop {
            self.rest = self.rest.trim_start_matches(' ');
            if self.rest.is_empty() || self.rest.starts_with(']') {
                return Ok(trees);
            }
            trees.push(self.tree()?);
            if !(self.rest.is_empty() || self.rest.starts_with([' ', ']'])) {
                return Err(ScopeSyntax(
                    "a scope must be followed by a space, '[' or ']'",
                ));
            }
        }
    }

    fn tree(&mut self) -> Result<ScopeTree, ScopeSyntax> {
        let optional = self.eat('*');
        let end = self
            .rest
            .find(['[', ']', '*', ' '])
            .unwrap_or(self.rest.len());
        let (scope, rest) = self.rest.split_at(end);
        if scope.is_empty() {
            return Err(ScopeSyntax("a scope must not be empty"));
        }
        self.rest = rest;
        let scope = scope.to_owned();
        let dependencies = if self.eat('[') {
            self.brackets()?
        } else {
            Vec::new()
        };
        Ok(ScopeTree {
            scope,
            optional,
            dependencies,
        })
    }

    fn brackets(&mut self) -> Result<Vec<ScopeTree>, ScopeSyntax> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ScopeSyntax("too many brackets within brackets"));
        }
        let trees = self.list()?;
        if trees.is_empty() {
            return Err(ScopeSyntax("brackets must not be empty"));
        }
        if !self.eat(']') {
            return Err(ScopeSyntax("'[' without ']'"));
        }
        self.depth -= 1;
        Ok(trees)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let after = self.rest.strip_prefix(wanted);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }
}

/// Keeps a hostile parameter from exhausting the stack.
const DEPTH_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(scope: &str, optional: bool, dependencies: Vec<ScopeTree>) -> ScopeTree {
        ScopeTree {
            scope: scope.to_owned(),
            optional,
            dependencies,
        }
    }

    #[test]
    fn dependencies_and_optional_scopes_are_read() {
        let read = parse("openid urn:x:all[*https://y/data_access b[c]]  *d").unwrap();
        let expected = vec![
            tree("openid", false, vec![]),
            tree(
                "urn:x:all",
                false,
                vec![
                    tree("https://y/data_access", true, vec![]),
                    tree("b", false, vec![tree("c", false, vec![])]),
                ],
            ),
            tree("d", true, vec![]),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn broken_scopes_are_refused() {
        let deep = "a[".repeat(100);
        for text in [
            "a[", "a]", "a[]", "a [b]", "* a", "a*", "a[b]c", "[a]", "*", "**a", &deep,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_empty_parameter_has_no_scopes() {
        assert_eq!(parse(" "), Ok(vec![]));
    }
}
