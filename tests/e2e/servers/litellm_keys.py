"""Who may use the proxy, without a database: two clients' keys, and the master's."""
import os

import fastapi
from litellm.proxy._types import UserAPIKeyAuth

OWNERS = {"sk-weir-one": "one", "sk-weir-two": "two", os.environ["LITELLM_MASTER_KEY"]: "master"}


async def check(request: fastapi.Request, api_key: str) -> UserAPIKeyAuth:
    if api_key not in OWNERS:
        raise fastapi.HTTPException(status_code=401, detail="no such key")
    return UserAPIKeyAuth(api_key=api_key, user_id=OWNERS[api_key])
