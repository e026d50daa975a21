//! The wire types of the API group globus-auth.dev and the generator of their YAML.
