"""Writes the files that the tests of `globus-auth-vault import` read, by the programs that users have them from.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py

The tokens are made up, and each is a secret that no log may show: `canary-…`.
"""

import os
import pathlib
import sqlite3

FOLDER = pathlib.Path(__file__).parent / "files"
FOLDER.mkdir(exist_ok=True)
# Nothing of whoever runs this is read or written.
os.environ["HOME"] = str(FOLDER / "home")
LATER = 4102444800  # 2100-01-01
FERNET_KEY = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="
PASSPHRASE = "a passphrase with more than 32 characters"

import globus_sdk  # noqa: E402
from atlas.modules.mcp_tools.token_storage import MCPTokenStorage  # noqa: E402
from fair_research_login import ConfigParserTokenStorage, JSONTokenStorage  # noqa: E402
from gladier.storage.tokens import GladierSecretsConfig  # noqa: E402
from globus_sdk import tokenstorage  # noqa: E402


def fresh(name):
    path = FOLDER / name
    path.unlink(missing_ok=True)
    return path


def atlas(name, key):
    folder = FOLDER / "atlas"
    folder.mkdir(exist_ok=True)
    store = MCPTokenStorage(storage_dir=folder, encryption_key=key)
    store.store_token(
        "Alice@Example.org", "transfer", "canary-atlas-access", token_type="oauth_access",
        expires_at=LATER, scopes="transfer:all offline", refresh_token="canary-atlas-refresh",
    )
    store.store_token("alice@example.org", "uploaded", "canary-atlas-jwt", token_type="jwt", expires_at=LATER)
    store.store_token("bob@example.org", "transfer", "canary-atlas-bob", token_type="bearer", expires_at=LATER)
    store.store_token("alice@example.org", "keyed", "canary-atlas-key", token_type="api_key")
    store.store_token("alice@example.org", "over", "canary-atlas-over", token_type="jwt", expires_at=1000.0)
    (folder / "mcp_tokens.enc").rename(fresh(name))
    folder.rmdir()


def by_resource_server(prefix, expires):
    return {
        server: {
            "scope": scope, "access_token": f"canary-{prefix}-access-{n}", "refresh_token": refresh,
            "token_type": "Bearer", "expires_at_seconds": expires, "resource_server": server,
        }
        for n, (server, scope, refresh) in enumerate([
            ("transfer.api.globus.org", "urn:globus:auth:scope:transfer.api.globus.org:all", f"canary-{prefix}-refresh"),
            # An underscore: the name of the entry in configparser files does not tell it from a dot.
            ("funcx_service", "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all", None),
        ])
    }


class Response:
    """What the storage of the SDK's first format wants of a token response."""

    def __init__(self, tokens):
        self.by_resource_server = tokens


def sdk():
    data = {
        server: tokenstorage.TokenStorageData(identity_id="a5b3a1c2-0000-4000-8000-000000000001", **tokens)
        for server, tokens in by_resource_server("sdk", LATER).items()
    }
    tokenstorage.JSONTokenStorage(fresh("sdk-tokens.json"), namespace="DEFAULT").store_token_data_by_resource_server(data)
    storage = tokenstorage.SQLiteTokenStorage(fresh("sdk-storage.db"), namespace="user/production")
    storage.store_token_data_by_resource_server(data)
    storage.close()
    tokenstorage.SimpleJSONFileAdapter(str(fresh("sdk-v1.json"))).store(Response(by_resource_server("v1", LATER)))


def fair_research():
    ConfigParserTokenStorage(filename=str(fresh("fair-research-login.cfg"))).write_tokens(by_resource_server("frl", LATER))
    JSONTokenStorage(filename=str(fresh("fair-research-login.json"))).write_tokens(by_resource_server("frljson", LATER))


def gladier():
    config = GladierSecretsConfig(str(fresh("gladier.cfg")), "public")
    config.set_value("some_function_id", "8d5cf1c6-3ab5-4c1c-b45d-4ea8c8c9f9c1")
    config.write_tokens(by_resource_server("gladier", LATER + 60))
    data = {
        server: tokenstorage.TokenStorageData(identity_id="a5b3a1c2-0000-4000-8000-000000000001", **tokens)
        for server, tokens in by_resource_server("gladierdb", LATER).items()
    }
    storage = tokenstorage.SQLiteTokenStorage(fresh("gladier.db"), namespace="gladier_storage")
    storage.store_token_data_by_resource_server(data)
    storage.close()


atlas("atlas-fernet.enc", FERNET_KEY)
atlas("atlas-passphrase.enc", PASSPHRASE)
(FOLDER / "atlas-fernet.key").write_text(FERNET_KEY + "\n")
(FOLDER / "atlas-passphrase.key").write_text(PASSPHRASE + "\n")
sdk()
fair_research()
gladier()
print(globus_sdk.__version__, sqlite3.sqlite_version)
