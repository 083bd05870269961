#Requires -Version 5.1
#Requires -RunAsAdministrator
<#
.SYNOPSIS
Installs Fovea as a service, or removes it: for nodes without the MSI, such as Arc-enabled servers and run-command.

.DESCRIPTION
Verifies the program, copies it to %ProgramFiles%\Fovea, makes the service and starts it. Run again it brings everything
to the same state: with the same program nothing is restarted, another one replaces it. Data, configuration and logs stay
in %ProgramData%\Fovea, also when the service is removed. The firewall is left alone: the API listens on loopback.

.EXAMPLE
.\install.ps1 -Program .\fovea.exe -Sha256 0123...cdef

.EXAMPLE
.\install.ps1 -Program .\fovea.exe -SignerThumbprint 0123...cdef -Config .\fovea.yaml

.EXAMPLE
.\install.ps1 -Uninstall
#>
[CmdletBinding(DefaultParameterSetName = 'Install')]
param(
    # The fovea.exe to install.
    [Parameter(ParameterSetName = 'Install')]
    [string] $Program = (Join-Path -Path $PSScriptRoot -ChildPath 'fovea.exe'),

    # Of the program, as the release names it. This or SignerThumbprint is required; both may be given.
    [Parameter(ParameterSetName = 'Install')]
    [ValidatePattern('^[0-9A-Fa-f]{64}$')]
    [string] $Sha256,

    # Of the certificate that signed the program; the signature has to be valid on this machine.
    [Parameter(ParameterSetName = 'Install')]
    [ValidatePattern('^[0-9A-Fa-f]{40}$')]
    [string] $SignerThumbprint,

    # A configuration for a node that has none yet; one that is there stays as it is.
    [Parameter(ParameterSetName = 'Install')]
    [string] $Config,

    # Removes service and program.
    [Parameter(Mandatory = $true, ParameterSetName = 'Uninstall')]
    [switch] $Uninstall
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$serviceName = 'Fovea'
$programDirectory = Join-Path -Path ([Environment]::GetFolderPath('ProgramFiles')) -ChildPath 'Fovea'
$installedProgram = Join-Path -Path $programDirectory -ChildPath 'fovea.exe'
$dataDirectory = Join-Path -Path ([Environment]::GetFolderPath('CommonApplicationData')) -ChildPath 'Fovea'
$configFile = Join-Path -Path $dataDirectory -ChildPath 'fovea.yaml'
# By their numbers: names of accounts are translated.
$systemSid = 'S-1-5-18'
$administratorsSid = 'S-1-5-32-544'

$icacls = Join-Path -Path ([Environment]::SystemDirectory) -ChildPath 'icacls.exe'
$serviceControl = Join-Path -Path ([Environment]::SystemDirectory) -ChildPath 'sc.exe'

# Runs a program and fails when it does.
function Invoke-Program {
    param([string] $Path, [string[]] $Arguments)
    & $Path @Arguments | Write-Verbose
    if ($LASTEXITCODE -ne 0) { throw "$Path $($Arguments -join ' ') failed with exit code $LASTEXITCODE." }
}

function Get-FoveaService {
    Get-Service -Name $serviceName -ErrorAction SilentlyContinue
}

# The MSI keeps accounts of what it installed: removed behind its back, it would repair or complain.
function Assert-NoMsi {
    $entries = Get-ItemProperty -Path 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall\{*}'
    foreach ($entry in $entries) {
        $name = $entry.PSObject.Properties['DisplayName']
        if ($null -ne $name -and $name.Value -eq 'Fovea') {
            throw "Fovea was installed by its MSI: update or remove it with msiexec ($($entry.PSChildName))."
        }
    }
}

function Assert-Program {
    param([string] $Path)
    if ($Sha256 -eq '' -and $SignerThumbprint -eq '') {
        throw 'Give -Sha256 or -SignerThumbprint: a program that nothing vouches for is not run as SYSTEM.'
    }
    if ($Sha256 -ne '') {
        $actual = (Get-FileHash -LiteralPath $Path -Algorithm SHA256).Hash
        if ($actual -ne $Sha256) { throw "$Program has the SHA-256 $actual, not $Sha256." }
    }
    if ($SignerThumbprint -ne '') {
        $signature = Get-AuthenticodeSignature -LiteralPath $Path
        if ($signature.Status -ne 'Valid') { throw "$Program is not validly signed: $($signature.StatusMessage)" }
        $actual = $signature.SignerCertificate.Thumbprint
        if ($actual -ne $SignerThumbprint) { throw "$Program is signed by $actual, not by $SignerThumbprint." }
    }
}

# For SYSTEM and administrators alone: the configuration names files with secrets, the store has the traffic.
function Protect-Directory {
    param([string] $Path)
    Invoke-Program -Path $icacls -Arguments @($Path, '/setowner', "*$administratorsSid", '/Q')
    Invoke-Program -Path $icacls -Arguments @($Path, '/inheritance:r', '/Q', '/grant:r',
        "*${systemSid}:(OI)(CI)F", "*${administratorsSid}:(OI)(CI)F")
}

# Below ProgramData every user may make a directory, or a way to another one, with a configuration in it, before we do.
function Assert-OwnPath {
    param([string] $Path)
    if (-not (Test-Path -LiteralPath $Path)) { return }
    if ((Get-Item -LiteralPath $Path -Force).Attributes -band [IO.FileAttributes]::ReparsePoint) {
        throw "$Path leads to another place. Look where; then remove it."
    }
    $owner = (Get-Acl -LiteralPath $Path).GetOwner([Security.Principal.SecurityIdentifier]).Value
    if ($owner -ne $systemSid -and $owner -ne $administratorsSid) {
        throw "$Path belongs to $owner. Look into it; then give it to Administrators (icacls /setowner) or remove it."
    }
}

function Install-Data {
    Assert-OwnPath -Path $dataDirectory
    New-Item -ItemType Directory -Path $dataDirectory -Force | Out-Null
    Protect-Directory -Path $dataDirectory
    Assert-OwnPath -Path $configFile
    if (Test-Path -LiteralPath $configFile) { return }
    if ($Config -ne '') { Copy-Item -LiteralPath $Config -Destination $configFile }
    else { Set-Content -LiteralPath $configFile -Encoding Ascii -Value '# All keys with their values: fovea.exe config print' }
    Invoke-Program -Path $icacls -Arguments @($configFile, '/setowner', "*$administratorsSid", '/Q')
}

# With the command line that starts it and its process; nothing where there is none.
function Get-FoveaRecord {
    Get-CimInstance -ClassName Win32_Service -Filter "Name = '$serviceName'"
}

# Whether the service that is there starts the program that this script verifies, and no other. A path that is not quoted
# might start C:\Program.exe.
function Test-OwnService {
    $record = Get-FoveaRecord
    if ($null -eq $record) { return $false }
    $line = [string] $record.PathName
    $own = '"' + $installedProgram + '"'
    if (-not $line.StartsWith($own, [StringComparison]::OrdinalIgnoreCase)) { return $false }
    return ($line.Length -eq $own.Length) -or ($line[$own.Length] -eq ' ')
}

function Stop-Fovea {
    $service = Get-FoveaService
    if ($null -eq $service -or $service.Status -eq 'Stopped') { return }
    $process = (Get-FoveaRecord).ProcessId
    # By the program itself, which waits until the last rows are kept; one that is not ours, or is gone, is not run.
    if ((Test-OwnService) -and (Test-Path -LiteralPath $installedProgram)) {
        Invoke-Program -Path $installedProgram -Arguments @('service', 'stop')
    }
    else {
        Stop-Service -Name $serviceName -Force
    }
    # It has stopped a moment before its process ends, which has the program open until then.
    if ($process -ne 0) { Wait-Process -Id $process -Timeout 60 -ErrorAction SilentlyContinue }
}

function Remove-FoveaService {
    Stop-Fovea
    if (Test-Path -LiteralPath $installedProgram) {
        Invoke-Program -Path $installedProgram -Arguments @('service', 'uninstall')
    }
    else {
        Invoke-Program -Path $serviceControl -Arguments @('delete', $serviceName)
    }
}

# The copy is verified, not what it was made of: nobody but administrators can change it afterwards.
function Install-Program {
    New-Item -ItemType Directory -Path $programDirectory -Force | Out-Null
    $fresh = Join-Path -Path $programDirectory -ChildPath 'fovea.new.exe'
    Copy-Item -LiteralPath $Program -Destination $fresh -Force
    try {
        Assert-Program -Path $fresh
        $same = (Test-Path -LiteralPath $installedProgram) -and
            (Get-FileHash -LiteralPath $fresh).Hash -eq (Get-FileHash -LiteralPath $installedProgram).Hash
        if ($same) { return }
        Stop-Fovea
        Move-Item -LiteralPath $fresh -Destination $installedProgram -Force
    }
    finally {
        Remove-Item -LiteralPath $fresh -Force -ErrorAction SilentlyContinue
    }
}

function Install-Fovea {
    Assert-NoMsi
    Install-Program
    Install-Data
    # One that starts another program is nobody's that was verified: it goes, and is made anew by the program that was.
    if ($null -ne (Get-FoveaService) -and -not (Test-OwnService)) { Remove-FoveaService }
    if ($null -eq (Get-FoveaService)) {
        Invoke-Program -Path $installedProgram -Arguments @('service', 'install', '--config', $configFile)
    }
    Invoke-Program -Path $installedProgram -Arguments @('service', 'start')
    Write-Output "Fovea runs: http://127.0.0.1:10093/metrics, unless $configFile says otherwise."
}

function Uninstall-Fovea {
    Assert-NoMsi
    if ($null -ne (Get-FoveaService)) { Remove-FoveaService }
    if (Test-Path -LiteralPath $programDirectory) { Remove-Item -LiteralPath $programDirectory -Recurse -Force }
    Write-Output "Fovea is removed; its data stays in $dataDirectory."
}

if (-not [Environment]::Is64BitProcess) {
    throw 'This is the 32-bit PowerShell, which sees other directories: run %SystemRoot%\Sysnative\WindowsPowerShell\v1.0\powershell.exe.'
}
if ($Uninstall) { Uninstall-Fovea } else { Install-Fovea }
