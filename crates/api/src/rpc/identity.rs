use std::sync::Arc;

use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult};
use tertulia_proto::identity::*;
use tertulia_services::identity::{Device as NewDevice, Identity, NewAccount, SignIn};
use tertulia_services::ids::LoginId;

use crate::convert;
use crate::error::raise;
use crate::gate::Admission;

pub struct Handler(pub Arc<Identity>);

#[protovalidate_buffa::connect_impl]
impl IdentityService for Handler {
    async fn create_account(
        &self,
        _ctx: RequestContext,
        request: ServiceRequest<'_, CreateAccountRequest>,
    ) -> ServiceResult<CreateAccountResponse> {
        let request = request.to_owned_message();
        let account = NewAccount {
            name: request.name,
            password: request.password,
            display_name: request.display_name,
            device: device(request.device.into_option()),
        };
        let credentials = self.0.create_account(account).await.map_err(raise)?;
        Response::ok(CreateAccountResponse {
            credentials: convert::credentials(credentials).into(),
            ..Default::default()
        })
    }

    async fn login(
        &self,
        _ctx: RequestContext,
        request: ServiceRequest<'_, LoginRequest>,
    ) -> ServiceResult<LoginResponse> {
        let request = request.to_owned_message();
        let sign_in = SignIn {
            name: request.name,
            password: request.password,
            device: device(request.device.into_option()),
        };
        let credentials = self.0.login(sign_in).await.map_err(raise)?;
        Response::ok(LoginResponse {
            credentials: convert::credentials(credentials).into(),
            ..Default::default()
        })
    }

    async fn refresh(
        &self,
        _ctx: RequestContext,
        request: ServiceRequest<'_, RefreshRequest>,
    ) -> ServiceResult<RefreshResponse> {
        let credentials = self.0.refresh(request.refresh_token).await.map_err(raise)?;
        Response::ok(RefreshResponse {
            credentials: convert::credentials(credentials).into(),
            ..Default::default()
        })
    }

    async fn logout(
        &self,
        ctx: RequestContext,
        _request: ServiceRequest<'_, LogoutRequest>,
    ) -> ServiceResult<LogoutResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        self.0.logout(&caller).await.map_err(raise)?;
        Response::ok(LogoutResponse::default())
    }

    async fn list_logins(
        &self,
        ctx: RequestContext,
        _request: ServiceRequest<'_, ListLoginsRequest>,
    ) -> ServiceResult<ListLoginsResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let logins = self.0.logins(&caller).await.map_err(raise)?;
        let logins = logins
            .into_iter()
            .map(|login| convert::login(login, caller.login))
            .collect();
        Response::ok(ListLoginsResponse {
            logins,
            ..Default::default()
        })
    }

    async fn end_login(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, EndLoginRequest>,
    ) -> ServiceResult<EndLoginResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        self.0
            .end_login(&caller, LoginId(request.login_id))
            .await
            .map_err(raise)?;
        Response::ok(EndLoginResponse::default())
    }

    async fn get_jwks(
        &self,
        _ctx: RequestContext,
        _request: ServiceRequest<'_, GetJwksRequest>,
    ) -> ServiceResult<GetJwksResponse> {
        let keys = self.0.jwks().into_iter().map(convert::jwk).collect();
        Response::ok(GetJwksResponse {
            keys,
            ..Default::default()
        })
    }
}

fn device(device: Option<Device>) -> NewDevice {
    let device = device.unwrap_or_default();
    NewDevice {
        device_id: device.device_id,
        name: device.name,
    }
}
