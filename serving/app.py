"""The HTTP application: routers put together, and every RequestError answered by the one table."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from serving import __version__
from serving.answers import answer_for
from serving.api import ApiServices, api_router, health_router
from serving.dicom.qido import qido_router
from serving.dicom.stow import stow_router
from serving.dicom.wado import wado_router
from serving.dicom.web_services import DicomWebServices
from serving.errors import RequestError


def build_app(api: ApiServices, web: DicomWebServices) -> FastAPI:
    """Every HTTP door of the server."""
    app = FastAPI(title="Lightbox", version=__version__, docs_url="/api/docs", redoc_url=None)

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> JSONResponse:
        return JSONResponse({"error": error.message}, status_code=answer_for(error).http)

    app.include_router(health_router(api))
    app.include_router(api_router(api))
    app.include_router(stow_router(web))
    app.include_router(wado_router(web))
    app.include_router(qido_router(web))
    return app
