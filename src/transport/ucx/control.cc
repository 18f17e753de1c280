#include "transport/ucx/control.h"

namespace slimccl::transport::ucx {

struct Controls::Request {
  std::shared_ptr<int> under_way;
  Header header;
  std::string text;

  static void end(void* request, ucs_status_t, void* ended) {
    const std::unique_ptr<Request> own(static_cast<Request*>(ended));
    --*own->under_way;
    ucp_request_free(request);
  }
  // Begun, if UCX has made a request of it; else done, or failed: then the error handler is called.
  static void begun(std::unique_ptr<Request> own, ucs_status_ptr_t request) {
    if (!UCS_PTR_IS_PTR(request)) return;
    ++*own->under_way;
    (void)own.release();  // end() frees it
  }
};

ucp_request_param_t request_param(void* user_data) {
  ucp_request_param_t param{};
  param.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_MEMORY_TYPE;
  param.user_data = user_data;
  param.memory_type = UCS_MEMORY_TYPE_HOST;  // spares UCX from finding out
  return param;
}

void Controls::send(Connection& connection, const Header& header, const std::string& text) {
  auto own = std::make_unique<Request>(Request{under_way_, header, text});
  ucp_request_param_t param = request_param(own.get());
  param.cb.send = Request::end;
  if (header.kind == Kind::kHello) {
    param.op_attr_mask |= UCP_OP_ATTR_FIELD_FLAGS;
    param.flags = UCP_AM_SEND_FLAG_REPLY;
  }
  const ucs_status_ptr_t request =
      ucp_am_send_nbx(connection.endpoint, kMessageId, &own->header, sizeof own->header,
                      own->text.data(), own->text.size(), &param);
  Request::begun(std::move(own), request);
}

void Controls::flush(Connection& connection) {
  auto own = std::make_unique<Request>(Request{under_way_, {}, {}});
  ucp_request_param_t param = request_param(own.get());
  param.op_attr_mask &= ~static_cast<uint32_t>(UCP_OP_ATTR_FIELD_MEMORY_TYPE);
  param.cb.send = Request::end;
  const ucs_status_ptr_t request = ucp_ep_flush_nbx(connection.endpoint, &param);
  Request::begun(std::move(own), request);
}

}  // namespace slimccl::transport::ucx
