"""The Globus emulator, used through globus-sdk: see README.md."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import globus_sdk
from globus_sdk.gare import to_gare
from globus_sdk.login_flows import CommandLineLoginFlowManager
from globus_sdk.scopes import GroupsScopes, Scope, TransferScopes

CALLBACK = "https://app.test/callback"
APP = ("4d5f3ba4-0d1c-4a8e-a4a7-3f9a3d5b9a10", "c2VjcmV0+with/reserved=characters=")
SERVICE = ("681c10cc-f684-4540-bcd7-0b4df3bc26ef", "b3RoZXI=")
NATIVE = "58fdd3bc-e1c3-4ce5-80ea-8d6b87cfb944"
ACTION_ALL = f"https://auth.globus.org/scopes/{SERVICE[0]}/action_all"
VIEW_GROUPS = "urn:globus:auth:scope:groups.api.globus.org:view_my_groups_and_memberships"
TRANSFER = "urn:globus:auth:scope:transfer.api.globus.org:all"
ALICE = "alice@anl.gov"
GROUP = "d3974728-6458-11e4-b72d-123139141556"

CONFIG = {
    "control": True,
    "clients": [
        {"client_id": APP[0], "client_secret": APP[1], "redirect_uris": [CALLBACK]},
        {"client_id": SERVICE[0], "client_secret": SERVICE[1], "resource_server": SERVICE[0]},
        {"client_id": NATIVE},
    ],
    "users": [
        {
            "username": ALICE,
            "groups": [{"id": GROUP, "name": "Users"}],
            "linked_identities": [{"username": "alice@uni.test"}],
        }
    ],
    "resource_servers": [
        {
            "name": SERVICE[0],
            "scopes": [
                {
                    "scope": ACTION_ALL,
                    "dependent_scopes": [
                        {"scope": VIEW_GROUPS},
                        {"scope": TRANSFER, "optional": True},
                    ],
                }
            ],
        }
    ],
}


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def log_in(authorize_url: str) -> str:
    """Presses Alice's button on the login page; returns the code."""
    split = urllib.parse.urlsplit(authorize_url)
    form = urllib.parse.urlencode({"request": split.query, "identity": ALICE}).encode()
    opener = urllib.request.build_opener(NoRedirect)
    try:
        opener.open(f"{split.scheme}://{split.netloc}/v2/web/login", form)
    except urllib.error.HTTPError as answer:
        location = urllib.parse.urlsplit(answer.headers["Location"])
        return urllib.parse.parse_qs(location.query)["code"][0]
    raise AssertionError("the login page came back")


class HeadlessLogin(CommandLineLoginFlowManager):
    """The SDK's command-line login, with the emulator's button instead of a person."""

    def print_authorize_url(self, authorize_url: str) -> None:
        self.code = log_in(authorize_url)

    def prompt_for_code(self) -> str:
        return self.code


def native_client() -> globus_sdk.NativeAppAuthClient:
    return globus_sdk.NativeAppAuthClient(NATIVE)


def confidential_client(client=APP) -> globus_sdk.ConfidentialAppAuthClient:
    return globus_sdk.ConfidentialAppAuthClient(*client)


def login_tokens(scopes, **options) -> globus_sdk.OAuthTokenResponse:
    client = confidential_client()
    client.oauth2_start_flow(CALLBACK, scopes, **options)
    return client.oauth2_exchange_code_for_tokens(log_in(client.oauth2_get_authorize_url()))


def api(client_class, token: str):
    return client_class(authorizer=globus_sdk.AccessTokenAuthorizer(token))


class ConfidentialApplication(unittest.TestCase):
    def test_code_exchange_gives_a_token_for_each_resource_server(self):
        scopes = ["openid", "profile", "email", ACTION_ALL, TransferScopes.all]
        tokens = login_tokens(scopes, refresh_tokens=True)
        by_server = tokens.by_resource_server
        self.assertEqual(
            set(by_server), {"auth.globus.org", SERVICE[0], "transfer.api.globus.org"}
        )
        for token in by_server.values():
            self.assertTrue(token["refresh_token"].startswith("Ag"))
        self.assertEqual(tokens.by_scopes[ACTION_ALL]["resource_server"], SERVICE[0])

    def test_the_id_token_is_accepted(self):
        tokens = login_tokens(["openid", "profile", "email"])
        claims = tokens.decode_id_token()
        self.assertEqual(claims["preferred_username"], ALICE)
        self.assertEqual(len(claims["identity_set"]), 2)

    def test_refresh_keeps_the_refresh_token(self):
        tokens = login_tokens([TransferScopes.all], refresh_tokens=True)
        token = tokens.by_resource_server["transfer.api.globus.org"]
        renewed = []
        authorizer = globus_sdk.RefreshTokenAuthorizer(
            token["refresh_token"], confidential_client(), on_refresh=renewed.append
        )
        authorizer.ensure_valid_token()
        authorizer.handle_missing_authorization()
        authorizer.ensure_valid_token()
        self.assertEqual(len(renewed), 2)
        self.assertEqual(authorizer.refresh_token, token["refresh_token"])

    def test_introspection_and_revocation(self):
        token = login_tokens(["openid", "email"])["access_token"]
        client = confidential_client()
        told = client.oauth2_token_introspect(token, include="identity_set,session_info")
        self.assertTrue(told["active"])
        self.assertEqual(told["username"], ALICE)
        self.assertEqual(len(told["identity_set"]), 2)
        self.assertFalse(client.oauth2_revoke_token(token)["active"])
        self.assertFalse(client.oauth2_token_introspect(token)["active"])
        other = login_tokens(["openid"])["access_token"]
        with self.assertRaises(globus_sdk.AuthAPIError) as caught:
            confidential_client(SERVICE).oauth2_token_introspect(other)
        self.assertEqual(caught.exception.http_status, 401)

    def test_client_credentials(self):
        tokens = confidential_client().oauth2_client_credentials_tokens(
            ["openid", TransferScopes.all]
        )
        self.assertIsNone(tokens.by_resource_server["transfer.api.globus.org"]["refresh_token"])
        self.assertEqual(tokens.decode_id_token()["sub"], APP[0])

    def test_dependent_tokens_and_missing_consent(self):
        token = login_tokens([ACTION_ALL])["access_token"]
        service = confidential_client(SERVICE)
        groups = service.oauth2_get_dependent_tokens(token, refresh_tokens=True)
        groups_token = groups.by_resource_server["groups.api.globus.org"]
        self.assertTrue(groups_token["refresh_token"])
        mine = api(globus_sdk.GroupsClient, groups_token["access_token"]).get_my_groups()
        self.assertEqual([group["id"] for group in mine], [GROUP])
        with self.assertRaises(globus_sdk.AuthAPIError) as caught:
            service.oauth2_get_dependent_tokens(token, scope=TRANSFER)
        parameters = to_gare(caught.exception).authorization_parameters
        self.assertEqual(parameters.required_scopes, [TRANSFER])
        wider = Scope(ACTION_ALL).with_dependency(Scope(TRANSFER, optional=True))
        token = login_tokens([wider])["access_token"]
        dependent = service.oauth2_get_dependent_tokens(token, scope=TRANSFER)
        self.assertIn("transfer.api.globus.org", dependent.by_resource_server)

    def test_a_used_code_is_a_401(self):
        client = confidential_client()
        client.oauth2_start_flow(CALLBACK, "openid")
        code = log_in(client.oauth2_get_authorize_url())
        client.oauth2_exchange_code_for_tokens(code)
        with self.assertRaises(globus_sdk.AuthAPIError) as caught:
            client.oauth2_exchange_code_for_tokens(code)
        self.assertEqual(caught.exception.http_status, 401)
        self.assertEqual(caught.exception.raw_json, {"error": "invalid_grant"})


class Services(unittest.TestCase):
    def test_userinfo_and_identities(self):
        token = login_tokens(["openid", "profile", "email"])["access_token"]
        client = api(globus_sdk.AuthClient, token)
        self.assertEqual(client.userinfo()["email"], ALICE)
        found = client.get_identities(usernames=[ALICE, "nobody@anl.gov"])
        self.assertEqual([identity["username"] for identity in found], [ALICE])
        names = globus_sdk.IdentityMap(client, [ALICE])
        self.assertEqual(names[ALICE]["organization"], "Example Organization")

    def test_a_missing_token_is_an_error_that_the_sdk_reads(self):
        with self.assertRaises(globus_sdk.AuthAPIError) as caught:
            globus_sdk.AuthClient().userinfo()
        self.assertEqual(caught.exception.code, "UNAUTHORIZED")
        self.assertEqual(caught.exception.message, "Call must be authenticated")

    def test_consents_form_a_forest(self):
        wider = Scope(ACTION_ALL).with_dependency(Scope(TRANSFER))
        tokens = login_tokens(["openid", wider])
        client = api(globus_sdk.AuthClient, tokens["access_token"])
        forest = client.get_consents(tokens.decode_id_token()["sub"]).to_forest()
        self.assertTrue(forest.meets_scope_requirements([wider]))
        groups = Scope(ACTION_ALL).with_dependency(Scope(VIEW_GROUPS))
        self.assertTrue(forest.meets_scope_requirements([groups]))

    def test_a_busy_server_is_retried(self):
        order = {
            "endpoint": "userinfo",
            "times": 2,
            "fault": {"kind": "status", "status": 429, "retry_after_seconds": 0},
        }
        control("faults", order)
        token = login_tokens(["openid"])["access_token"]
        self.assertIn("sub", api(globus_sdk.AuthClient, token).userinfo().data)


class NativeApplication(unittest.TestCase):
    def test_a_user_app_logs_in_with_pkce_and_checks_consents(self):
        config = globus_sdk.GlobusAppConfig(
            login_flow_manager=HeadlessLogin, token_storage="memory", request_refresh_tokens=True
        )
        wider = Scope(ACTION_ALL).with_dependency(Scope(TRANSFER, optional=True))
        requirements = {
            "groups.api.globus.org": [GroupsScopes.view_my_groups_and_memberships],
            SERVICE[0]: [wider],
        }
        app = globus_sdk.UserApp(
            "check", client_id=NATIVE, scope_requirements=requirements, config=config
        )
        with app:
            groups = globus_sdk.GroupsClient(app=app)
            self.assertEqual([group["name"] for group in groups.get_my_groups()], ["Users"])
            self.assertFalse(app.login_required())
            app.logout()
            self.assertTrue(app.login_required())

    def test_the_wrong_verifier_is_refused(self):
        client = native_client()
        client.oauth2_start_flow("openid")
        code = log_in(client.oauth2_get_authorize_url())
        client.oauth2_start_flow("openid")
        with self.assertRaises(globus_sdk.AuthAPIError):
            client.oauth2_exchange_code_for_tokens(code)

    def test_a_client_app_needs_no_user(self):
        config = globus_sdk.GlobusAppConfig(token_storage="memory")
        with globus_sdk.ClientApp(
            "check", client_id=APP[0], client_secret=APP[1], config=config
        ) as app:
            told = globus_sdk.AuthClient(app=app).userinfo()
            self.assertEqual(told["sub"], APP[0])


def control(path: str, body: dict) -> None:
    data = json.dumps(body).encode()
    urllib.request.urlopen(f"{os.environ['GLOBUS_SDK_SERVICE_URL_AUTH']}_emulator/{path}", data)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main() -> None:
    binary = sys.argv.pop(1)
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory) / "config.json"
        config.write_text(json.dumps(CONFIG))
        emulator = subprocess.Popen([binary, "--config", str(config), "--listen", address])
        try:
            for service in ["AUTH", "GROUPS"]:
                # The SDK makes the native redirect URI by appending to this, so it ends in a slash.
                os.environ[f"GLOBUS_SDK_SERVICE_URL_{service}"] = f"http://{address}/"
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"http://{address}/_emulator/health")
                    break
                except urllib.error.URLError:
                    time.sleep(0.05)
            unittest.main(verbosity=2)
        finally:
            emulator.terminate()
            emulator.wait()


if __name__ == "__main__":
    main()
