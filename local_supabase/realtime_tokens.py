"""Keys and tokens that open a Realtime socket or channel: checks and the messages of their failures."""

import hmac
import time
from dataclasses import dataclass, field
from typing import Any, Final

import jwt

__all__ = ["API_KEY_MISSING", "Claims", "TokenError", "Tokens"]

Claims = dict[str, Any]

API_KEY_MISSING: Final = "API key is missing"
_MALFORMED: Final = "The token provided is not a valid JWT"
_BAD_SIGNATURE: Final = "Failed to validate JWT signature"
_MISSING_CLAIMS: Final = "Fields `role` and `exp` are required in JWT"


class TokenError(Exception):
    """A key or token is refused.

    Attributes:
        code: The class of failure, as it precedes the message in the answer to a join.
        message: What the client is told.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Tokens:
    """What this project accepts.

    Attributes:
        jwt_secret: The secret of HS256 tokens.
        secret_key: The `sb_secret_` key, which stands for service_role.
        publishable_key: The `sb_publishable_` key, which stands for anon.
    """

    jwt_secret: str = field(repr=False)
    secret_key: str = field(repr=False)
    publishable_key: str = field(repr=False)

    def claims(self, token: str) -> Claims:
        """Return the claims of a key or token. Those of an `sb_` key have a role and never expire.

        Raises:
            TokenError: It is no key of this project and no token, or is forged, expired or incomplete.
        """
        for key, role in ((self.secret_key, "service_role"), (self.publishable_key, "anon")):
            if hmac.compare_digest(token.encode(), key.encode()):
                return {"role": role}
        claims = self._decode(token)
        expiry = claims.get("exp")
        if "role" not in claims or not isinstance(expiry, int) or isinstance(expiry, bool):
            raise TokenError("InvalidJWTToken", _MISSING_CLAIMS)
        late = int(time.time()) - expiry
        if late >= 0:
            raise TokenError("InvalidJWTToken", f"Token has expired {late} seconds ago")
        return claims

    def _decode(self, token: str) -> Claims:
        """Check form and signature only: the server's own checks of claims have messages of their own."""
        nothing = {f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
        try:
            return jwt.decode(token, self.jwt_secret, algorithms=["HS256"], options=nothing)  # type: ignore[arg-type]
        except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError) as error:
            raise TokenError("JwtSignatureError", _BAD_SIGNATURE) from error
        except jwt.InvalidTokenError as error:
            raise TokenError("MalformedJWT", _MALFORMED) from error
