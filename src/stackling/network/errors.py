"""The network API's error types: clients read the `type` of an error, which is the name of its class here.

Each is a kind of `base.errors`; the names are Neutron's.
"""

from stackling.base.errors import BadRequest, Conflict, NotFound, PreconditionFailed


class AddressGroupNotFound(NotFound):
    pass


class AddressScopeNotFound(NotFound):
    pass


class AgentNotFound(NotFound):
    pass


class AutoAllocatedTopologyNotFound(NotFound):
    pass


class AvailabilityZoneNotFound(NotFound):
    pass


class ExternalGatewayForFloatingIPNotFound(NotFound):
    pass


class FloatingIPNotFound(NotFound):
    pass


class MeteringLabelNotFound(NotFound):
    pass


class MeteringLabelRuleNotFound(NotFound):
    pass


class NetworkNotFound(NotFound):
    pass


class PortNotFound(NotFound):
    pass


class RbacPolicyNotFound(NotFound):
    pass


class RouterInterfaceNotFound(NotFound):
    pass


class RouterInterfaceNotFoundForSubnet(NotFound):
    pass


class RouterNotFound(NotFound):
    pass


class SecurityGroupNotFound(NotFound):
    pass


class SecurityGroupRuleNotFound(NotFound):
    pass


class SubnetNotFound(NotFound):
    pass


class SubnetPoolNotFound(NotFound):
    pass


class TagNotFound(NotFound):
    pass


class DNSNameServersExhausted(BadRequest):
    pass


class AddressesAlreadyExist(BadRequest):
    pass


class AddressesNotFound(NotFound):
    pass


class DuplicateAddressPairInRequest(BadRequest):
    pass


class HostRoutesExhausted(BadRequest):
    pass


class IllegalSubnetPoolPrefixUpdate(BadRequest):
    pass


class InvalidAllocationPool(BadRequest):
    pass


class InvalidInput(BadRequest):
    pass


class InvalidIpForNetwork(BadRequest):
    pass


class InvalidIpForSubnet(BadRequest):
    pass


class MaxPrefixSubnetAllocationError(BadRequest):
    pass


class MinPrefixSubnetAllocationError(BadRequest):
    pass


class MissingMinSubnetPoolPrefix(BadRequest):
    pass


class OutOfBoundsAllocationPool(BadRequest):
    pass


class PortSecurityAndIPRequiredForSecurityGroups(BadRequest):
    pass


class RoutesExhausted(BadRequest):
    pass


class SecurityGroupInvalidIcmpValue(BadRequest):
    pass


class SecurityGroupInvalidPortRange(BadRequest):
    pass


class SecurityGroupInvalidPortValue(BadRequest):
    pass


class SecurityGroupInvalidProtocolType(BadRequest):
    pass


class SecurityGroupMissingIcmpType(BadRequest):
    pass


class SecurityGroupProtocolRequiredWithPorts(BadRequest):
    pass


class SecurityGroupRemoteGroupAndRemoteIpPrefix(BadRequest):
    pass


class SecurityGroupRuleParameterConflict(BadRequest):
    pass


class AddressPairAndPortSecurityRequired(Conflict):
    pass


class AddressGroupInUse(Conflict):
    pass


class AddressScopeInUse(Conflict):
    pass


class AutoAllocationFailure(Conflict):
    pass


class ExternalNetworkInUse(Conflict):
    pass


class FloatingIPPortAlreadyAssociated(Conflict):
    pass


class GatewayConflictWithAllocationPools(Conflict):
    pass


class GatewayIpInUse(Conflict):
    pass


class InvalidSharedSetting(Conflict):
    pass


class IpAddressAlreadyAllocated(Conflict):
    pass


class IpAddressGenerationFailure(Conflict):
    pass


class L3PortInUse(Conflict):
    pass


class MacAddressInUse(Conflict):
    pass


class MeteringLabelRuleOverlaps(Conflict):
    pass


class NetworkInUse(Conflict):
    pass


class OverlappingAllocationPools(Conflict):
    pass


class PortInUse(Conflict):
    pass


class PortSecurityPortHasSecurityGroup(Conflict):
    pass


class RbacPolicyExists(Conflict):
    pass


class RbacPolicyInUse(Conflict):
    pass


class RouterExternalGatewayInUseByFloatingIp(Conflict):
    pass


class RouterInUse(Conflict):
    pass


class RouterInterfaceInUseByFloatingIP(Conflict):
    pass


class RouterInterfaceInUseByRoute(Conflict):
    pass


class SecurityGroupCannotRemoveDefault(Conflict):
    pass


class SecurityGroupCannotUpdateDefault(Conflict):
    pass


class SecurityGroupDefaultAlreadyExists(Conflict):
    pass


class SecurityGroupInUse(Conflict):
    pass


class SecurityGroupRuleExists(Conflict):
    pass


class ServicePortInUse(Conflict):
    pass


class SubnetAllocationError(Conflict):
    pass


class SubnetInUse(Conflict):
    pass


class SubnetPoolInUse(Conflict):
    pass


class SubnetPoolQuotaExceeded(Conflict):
    pass


class VlanIdInUse(Conflict):
    pass


class RevisionNumberConstraintFailed(PreconditionFailed):
    pass
