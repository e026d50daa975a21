// The configuration file: what may be in it, and what is assumed where it is silent.

import { readFileSync } from 'node:fs';

const fields = {
  '': {
    issuer: 'string', listen: 'object', browser_url: 'string?', control: 'boolean?', clients: 'array',
    users: 'array', resources: 'array?', lifetimes: 'object?', rotate_refresh_tokens: 'boolean?',
    claims_in_id_token: 'boolean?',
  },
  listen: { host: 'string', port: 'number' },
  lifetimes: {
    access_token_seconds: 'number?', id_token_seconds: 'number?', refresh_token_seconds: 'number?',
    session_seconds: 'number?',
  },
  clients: {
    client_id: 'string', client_secret: 'string?', redirect_uris: 'array?',
    post_logout_redirect_uris: 'array?', backchannel_logout_uri: 'string?',
  },
  users: {
    username: 'string', sub: 'string?', email: 'string?', email_verified: 'boolean?', name: 'string?',
    groups: 'array?',
  },
  resources: { resource: 'string', scopes: 'array', lifetime_seconds: 'number?' },
};

/** Reads and checks a configuration file; throws an error that names the field. */
export function load(path) {
  return check(JSON.parse(readFileSync(path, 'utf8')));
}

/** Checks a configuration, and fills in what it leaves out. */
export function check(settings) {
  checkFields('', settings);
  checkFields('listen', settings.listen);
  checkFields('lifetimes', settings.lifetimes ?? {});
  for (const list of ['clients', 'users', 'resources']) {
    for (const [index, item] of (settings[list] ?? []).entries()) {
      checkFields(list, item, `${list}[${index}]`);
    }
  }
  return {
    control: false,
    resources: [],
    rotate_refresh_tokens: true,
    claims_in_id_token: true,
    ...settings,
    lifetimes: {
      access_token_seconds: 3600,
      id_token_seconds: 3600,
      refresh_token_seconds: 14 * 86400,
      session_seconds: 86400,
      ...settings.lifetimes,
    },
  };
}

function checkFields(kind, value, place = kind) {
  const at = place ? `${place}: ` : '';
  if (typeOf(value) !== 'object') throw new Error(`${at}must be an object`);
  for (const name of Object.keys(value)) {
    if (!Object.hasOwn(fields[kind], name)) throw new Error(`${at}unknown field ${name}`);
  }
  for (const [name, type] of Object.entries(fields[kind])) {
    const optional = type.endsWith('?');
    if (value[name] === undefined && optional) continue;
    const wanted = type.replace('?', '');
    if (typeOf(value[name]) !== wanted) throw new Error(`${at}${name} must be of type ${wanted}`);
  }
}

function typeOf(value) {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}
